"""The base class of downstream tasks: targets, head, loss and metrics."""

from __future__ import annotations

import copy
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from typing_extensions import Self

from patchit_hf.common.draws import crop_rows
from patchit_hf.data.canvas import to_canvas
from patchit_hf.downstream.augment import Augmentation, Geometry, View
from patchit_hf.downstream.results import RawResult, Result
from patchit_hf.downstream.windows import Window


class Report(NamedTuple):
    """The metrics of predictions.

    Attributes:
        summary: metrics by name; higher is better unless the name says otherwise. Those that cannot
            be computed are missing.
        table: one row per attribute, class, joint or the like.
    """

    summary: dict[str, float]
    table: list[dict[str, Any]]


class DownstreamTask(ABC):
    """A labelled task on whole crops.

    ``from_dataset`` builds a task from a training split, and ``from_kwargs`` rebuilds it from its
    ``kwargs``, which are JSON values. A task knows nothing of files, Accelerate or the Hub, and
    does not change after it is made: ``fit`` and ``with_input_size`` return another one.

    Attributes:
        augmentation: how training crops are augmented.
        cuts_windows: whether a whole image, too, is brought to the canvas by ``cut``.
        flips: whether predictions are averaged over each crop and its mirror image.
        people_in_names: whether names of image files may say people and cameras.
        input_size: height and width of the input of the network, in pixels.

    Example:
        >>> import datasets, torch
        >>> from patchit_hf.downstream import create_downstream
        >>> rows = datasets.Dataset.from_dict({"hat": [True, True, False, True]})
        >>> task = create_downstream("attributes", rows)
        >>> targets = task.targets(rows)
        >>> targets.tolist()
        [[1], [1], [0], [1]]
        >>> predictions = torch.tensor([[0.9], [0.8], [0.1], [0.7]])  # what task.predict returns
        >>> task.measure(predictions, targets).summary[task.primary_metric]
        1.0
    """

    augmentation: ClassVar[Augmentation] = Augmentation()
    cuts_windows: ClassVar[bool] = False
    flips: ClassVar[bool] = False
    people_in_names: ClassVar[bool] = False
    input_size: tuple[int, int] = (192, 96)

    @classmethod
    @abstractmethod
    def from_dataset(cls, dataset: datasets.Dataset) -> Self:
        """Build the task from the columns of a training split; its options are keyword-only."""

    @classmethod
    def from_kwargs(cls, kwargs: dict[str, Any]) -> Self:
        """Rebuild a task from its ``kwargs``."""
        return cls(**kwargs)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments that rebuild this task, as JSON values."""
        return {name: getattr(self, name) for name in keyword_only(type(self))}

    @property
    @abstractmethod
    def primary_metric(self) -> str:
        """The metric that models are chosen by; higher is better."""

    @property
    def num_classes(self) -> int:
        """Number of outputs of the backbone's own classifier; 0 if the task has its own head."""
        return 0

    @property
    def label_names(self) -> list[str]:
        """Names of the outputs of the classifier."""
        return []

    @property
    def multi_label(self) -> bool:
        """Whether each output of the classifier answers its own yes/no question."""
        return False

    def prepare(self, dataset: datasets.Dataset, canvas: tuple[int, int]) -> datasets.Dataset:
        """Return the data set that images and targets are read from.

        Args:
            dataset: a split with an image column.
            canvas: height and width that images are resized to, in pixels.
        """
        return dataset

    @abstractmethod
    def targets(self, dataset: datasets.Dataset) -> Tensor:
        """Return the targets ``[N, ...]`` of every row of a split that ``prepare`` returned.

        Raises:
            InputError: for missing columns, or labels of the wrong kind.
        """

    def usable(self, targets: Tensor) -> Tensor:
        """Return which rows have a label at all, bool ``[N]``."""
        return (targets >= 0).flatten(1).any(1) if targets.ndim > 1 else targets >= 0

    def refusal(self, targets: Tensor) -> str:
        """Return why none of the rows is usable, for a message."""
        return f"none of its {len(targets)} rows has a label for this task"

    def unmeasured(self, targets: Tensor) -> str:
        """Return why none of the metrics can be computed from targets ``[N, ...]``."""
        return f"no metric can be computed from the labels of its {len(targets)} rows"

    def by_name(self) -> Self:
        """Return this task with labels that are compared between data sets; here, the same one."""
        return self

    def with_input_size(self, size: tuple[int, int]) -> Self:
        """Return this task for inputs of another height and width, in pixels."""
        return self._with(input_size=size)

    def fit(self, targets: Tensor) -> Self:
        """Return this task with what its loss needs to know of the training targets.

        Such as how rare each answer is, or who the people are. Here: the task as it is.
        """
        return self

    def _with(self, **values: Any) -> Self:
        task = copy.copy(self)
        vars(task).update(values)
        return task

    def scored(self, targets: Tensor) -> Tensor:
        """Return which rows count in an evaluation, bool ``[N]``."""
        return self.usable(targets)

    def units(self, targets: Tensor) -> Tensor:
        """Return the unit of each row that ``--fraction`` counts, int64 ``[N]``."""
        return torch.arange(len(targets))

    def groups(self, targets: Tensor) -> Tensor:
        """Return which row shows which class, for ``--shots`` to count: bool ``[N, G]``."""
        values = targets.unique()
        shown: Tensor = targets[:, None] == values[values >= 0][None]
        return shown

    def head(self, num_features: int) -> nn.Module | None:
        """Return a module on unpooled features ``[B, C, H, W]``; None for timm's classifier."""
        return None

    def moved(self, targets: Tensor, view: View) -> Tensor:
        """Return the targets ``[B, ...]`` of crops as a view shows them, mirrored or moved."""
        flipped = view.flipped.view(-1, *[1] * (targets.ndim - 1))
        return torch.where(flipped, self.mirrored(targets), targets)

    def mirrored(self, targets: Tensor) -> Tensor:
        """Return the targets of mirrored crops."""
        return targets

    @abstractmethod
    def loss(self, output: Any, targets: Tensor) -> dict[str, Tensor]:
        """Return ``loss`` and metrics of a batch, each a scalar."""

    @abstractmethod
    def predict(self, output: Any) -> Tensor:
        """Return the predictions of an output, float ``[B, ...]``."""

    @abstractmethod
    def measure(self, predictions: Tensor, targets: Tensor) -> Report:
        """Return the metrics of predictions ``[N, ...]``; missing labels do not count."""

    def resampled(
        self, predictions: Tensor, targets: Tensor
    ) -> tuple[Callable[[Tensor], dict[str, float]], int]:
        """Return metrics as a function of rows, int64 ``[n]``, and the number of rows.

        A bootstrap calls the function with rows drawn at random.
        """
        return lambda rows: self.measure(predictions[rows], targets[rows]).summary, len(targets)

    def in_picture(
        self, predictions: Tensor, geometry: Geometry, dataset: datasets.Dataset
    ) -> Tensor:
        """Return predictions in the coordinates of the given images instead of the network's input.

        Args:
            predictions: ``[N, ...]``, of the central window of the canvas.
            geometry: from canvas to input.
            dataset: the split that ``prepare`` returned.
        """
        return predictions

    def cut(
        self, image: Image.Image, box: Window | None, canvas: tuple[int, int], fit: str
    ) -> tuple[NDArray[np.uint8], Window]:
        """Bring one person of an image to the canvas.

        Here: the part inside the box, as if it had been given as a crop.

        Args:
            image: as it is shown, in RGB.
            box: x0, y0, x1, y1 in its pixels, some of it inside; None for the whole image.
            canvas: height and width, in pixels.
            fit: see ``patchit_hf.data.canvas.to_canvas``.

        Returns:
            uint8 ``[H, W, 3]``, and the window of the image that it shows, in pixels.
        """
        box = box or (0.0, 0.0, float(image.width), float(image.height))
        left, top = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
        right, bottom = min(math.ceil(box[2]), image.width), min(math.ceil(box[3]), image.height)
        part = image.crop((left, top, right, bottom))
        return to_canvas(part, canvas, fit), (left, top, right, bottom)

    def placed(self, predictions: Tensor, geometry: Geometry, windows: Tensor) -> Tensor:
        """Return predictions in pixels of the images that their crops were cut from.

        Args:
            predictions: ``[N, ...]``, of the central window of the canvas.
            geometry: from canvas to input.
            windows: x0, y0, x1, y1 of what each canvas shows, float32 ``[N, 4]``.
        """
        return predictions

    def result(self, prediction: Tensor) -> Result:
        """Return the prediction of one image ``[...]`` by name."""
        return RawResult(prediction.numpy())

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Return predictions as the named columns of a table."""
        return {"prediction": predictions.tolist()}

    def rows(self, seed: int, numbers: Tensor, targets: Tensor) -> Tensor:
        """Return the row of each training sample, int64 ``[B]``.

        It depends on the seed and the global number of the sample alone. Every epoch visits every
        row once, unless a task does otherwise.

        Args:
            seed: the seed of the run.
            numbers: global numbers of the samples, int64 ``[B]``.
            targets: targets of all rows, ``[N, ...]``.
        """
        return crop_rows(seed, numbers, len(targets))


def keyword_only(function: Callable[..., Any]) -> list[str]:
    """Return the names of the keyword-only arguments of a function or class.

    Example:
        >>> keyword_only(sorted)
        ['key', 'reverse']
    """
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]

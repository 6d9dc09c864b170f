"""What every downstream task offers the loop: targets, head, loss, metrics."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from patchit_hf.data.draws import crop_rows
from patchit_hf.downstream.augment import Augmentation, Geometry, View


class Report(NamedTuple):
    """What a task says about predictions.

    Attributes:
        summary: named figures, each higher for better unless its name says otherwise; what cannot
            be computed is missing.
        table: one row per attribute, class, joint or the like.
    """

    summary: dict[str, float]
    table: list[dict[str, Any]]


class DownstreamTask(ABC):
    """A labelled task on whole crops.

    A task is built from a training split by ``from_dataset``, and again from ``kwargs``, which are
    JSON values. It never sees a file, Accelerate or the Hub.

    Attributes:
        augmentation: how training crops are varied.
        flips: whether predictions are averaged over each crop and its mirror image.
        input_size: height and width of the network's input, in pixels; see ``with_input_size``.
    """

    augmentation: ClassVar[Augmentation] = Augmentation()
    flips: ClassVar[bool] = False
    input_size: tuple[int, int] = (192, 96)

    @classmethod
    @abstractmethod
    def from_dataset(cls, dataset: Any) -> Self:
        """Build the task from the columns of a training split; options are keyword-only."""

    @classmethod
    @abstractmethod
    def from_kwargs(cls, kwargs: dict[str, Any]) -> Self:
        """Build the task from what ``kwargs`` was."""

    @property
    @abstractmethod
    def kwargs(self) -> dict[str, Any]:
        """What builds this task again, as JSON values."""

    @property
    @abstractmethod
    def primary_metric(self) -> str:
        """The figure that models are chosen by; higher is better."""

    @property
    def num_classes(self) -> int:
        """Outputs of the backbone's own classifier; 0 where the task brings a head of its own."""
        return 0

    @property
    def label_names(self) -> list[str]:
        """Names of the classifier's outputs."""
        return []

    @property
    def multi_label(self) -> bool:
        """Whether each output of the classifier is a question of its own."""
        return False

    def prepare(self, dataset: Any, canvas: tuple[int, int]) -> Any:
        """Return the data set that pictures and targets are read from.

        Args:
            dataset: a split with an image column.
            canvas: height and width that the pictures are brought to, in pixels.
        """
        return dataset

    @abstractmethod
    def targets(self, dataset: Any) -> Tensor:
        """Return the targets of every row of a split as ``prepare`` returned it: ``[N, ...]``.

        Raises:
            InputError: for missing columns or labels of another kind.
        """

    def usable(self, targets: Tensor) -> Tensor:
        """Return which rows have any label: bool ``[N]``."""
        return (targets >= 0).flatten(1).any(1) if targets.ndim > 1 else targets >= 0

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
        """Return which rows an evaluation counts: bool ``[N]``."""
        return self.usable(targets)

    def units(self, targets: Tensor) -> Tensor:
        """Return what ``--fraction`` counts: the unit of each row, int64 ``[N]``."""
        return torch.arange(len(targets))

    def groups(self, targets: Tensor) -> Tensor:
        """Return what ``--shots`` counts: bool ``[N, G]``, which row shows which class."""
        values = targets.unique()
        shown: Tensor = targets[:, None] == values[values >= 0][None]
        return shown

    def head(self, num_features: int) -> nn.Module | None:
        """Return a module from unpooled features ``[B, C, H, W]``, None for timm's classifier."""
        return None

    def moved(self, targets: Tensor, view: View) -> Tensor:
        """Return the targets ``[B, ...]`` of crops that a view has mirrored or moved."""
        flipped = view.flipped.view(-1, *[1] * (targets.ndim - 1))
        return torch.where(flipped, self.mirrored(targets), targets)

    def mirrored(self, targets: Tensor) -> Tensor:
        """Return the targets of mirrored crops."""
        return targets

    @abstractmethod
    def loss(self, output: Any, targets: Tensor) -> dict[str, Tensor]:
        """Return ``loss`` and metrics of a batch, scalars."""

    @abstractmethod
    def predict(self, output: Any) -> Tensor:
        """Return what is kept of an output: float ``[B, ...]``."""

    @abstractmethod
    def measure(self, predictions: Tensor, targets: Tensor) -> Report:
        """Return the metrics of predictions ``[N, ...]``; rows without a label do not count."""

    def resampled(
        self, predictions: Tensor, targets: Tensor
    ) -> tuple[Callable[[Tensor], dict[str, float]], int]:
        """Return what a bootstrap draws from: figures of rows int64 ``[n]``, and the row count."""
        return lambda rows: self.measure(predictions[rows], targets[rows]).summary, len(targets)

    def in_picture(self, predictions: Tensor, geometry: Geometry, dataset: Any) -> Tensor:
        """Return predictions in terms of the user's pictures instead of the network's inputs.

        Args:
            predictions: ``[N, ...]``, of the window in the canvas' middle.
            geometry: from canvas to input.
            dataset: the split as ``prepare`` returned it.
        """
        return predictions

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Return predictions as named columns of a table."""
        return {"prediction": predictions.tolist()}

    def rows(self, seed: int, numbers: Tensor, targets: Tensor) -> Tensor:
        """Return which rows the samples of these global numbers are: int64 ``[B]``.

        A function of (seed, number) alone. Every epoch visits every row once, unless a task says
        otherwise.
        """
        return crop_rows(seed, numbers, len(targets))

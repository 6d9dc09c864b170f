"""Actions, or any other label of which an image has exactly one: top-1 accuracy and mean AP.

The classifier is the backbone's own, so timm and transformers can load it.
"""

from __future__ import annotations

from typing import Any

import datasets
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from patchit_hf.common.errors import InputError
from patchit_hf.downstream.augment import Augmentation
from patchit_hf.downstream.base import DownstreamTask, Report
from patchit_hf.downstream.columns import find_column, swapped
from patchit_hf.downstream.labels import LabelColumn, read_column
from patchit_hf.downstream.results import ActionResult
from patchit_hf.metrics.classification import classification

COLUMNS = ("action", "label")


class Task(DownstreamTask):
    """One label per image.

    Args:
        column: the label column.
        smoothing: label smoothing, from 0.

    Raises:
        InputError: for a value out of range.

    Example:
        >>> import datasets, torch
        >>> rows = datasets.Dataset.from_dict({"action": ["sit", "stand", "sit"]})
        >>> task = Task.from_dataset(rows)
        >>> task.label_names, task.targets(rows).tolist()
        (['sit', 'stand'], [0, 1, 0])
        >>> logits = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 4.0]])
        >>> round(task.measure(task.predict(logits), task.targets(rows)).summary["accuracy"], 2)
        0.67
    """

    augmentation = Augmentation(zoom=0.2, shift=0.1)

    def __init__(self, *, column: LabelColumn, smoothing: float = 0.1) -> None:
        if not isinstance(smoothing, int | float) or not 0 <= smoothing < 1:
            raise InputError(f"smoothing={smoothing!r} in --task-kwargs: a number from 0, below 1")
        self.column, self.smoothing = column, smoothing

    @classmethod
    def from_dataset(
        cls, dataset: datasets.Dataset, *, column: str | None = None, smoothing: float = 0.1
    ) -> Self:
        """Build the task from a training split; by default from ``action`` or ``label``."""
        name = find_column(dataset, column, COLUMNS, "column")
        return cls(column=read_column(dataset, name), smoothing=smoothing)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments that rebuild this task, as JSON values."""
        return {"column": self.column.kwargs, "smoothing": self.smoothing}

    @classmethod
    def from_kwargs(cls, kwargs: dict[str, Any]) -> Self:
        """Rebuild a task from its ``kwargs``."""
        return cls(**{**kwargs, "column": LabelColumn(**kwargs["column"])})

    @property
    def primary_metric(self) -> str:
        """Top-1 accuracy."""
        return "accuracy"

    @property
    def num_classes(self) -> int:
        """Number of outputs of the backbone's classifier."""
        return len(self.column.classes)

    @property
    def label_names(self) -> list[str]:
        """Names of the classes."""
        return self.column.classes

    def targets(self, dataset: datasets.Dataset) -> Tensor:
        """Return class indices, int64 ``[N]``; -1 for no label."""
        return self.column.encode(dataset)

    def mirrored(self, targets: Tensor) -> Tensor:
        """Swap classes whose names differ in left and right."""
        return targets.new_tensor([*swapped(self.column.classes), -1])[targets]

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy and accuracy of logits ``[B, K]``."""
        loss = F.cross_entropy(output.float(), targets, label_smoothing=self.smoothing)
        return {"loss": loss, "accuracy": (output.argmax(1) == targets).float().mean()}

    def predict(self, output: Tensor) -> Tensor:
        """Return probabilities ``[B, K]``."""
        return output.float().softmax(1)

    def measure(self, predictions: Tensor, targets: Tensor) -> Report:
        """Return top-1 accuracy, balanced accuracy and mean AP."""
        metrics, table = classification(predictions, targets, self.column.classes)
        return Report({k: v for k, v in metrics.items() if v is not None}, table)

    def result(self, prediction: Tensor) -> ActionResult:
        """Return the class and the probabilities ``[K]`` by name."""
        label = self.column.classes[int(prediction.argmax())]
        probabilities = zip(self.column.classes, prediction.tolist(), strict=True)
        return ActionResult(label, dict(probabilities))

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Return the predicted class and the probability of every class."""
        answers = [self.column.classes[i] for i in predictions.argmax(1).tolist()]
        each = {f"p={c}": predictions[:, i].tolist() for i, c in enumerate(self.column.classes)}
        return {"prediction": answers, **each}

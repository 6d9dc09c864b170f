"""Person attributes: yes/no columns, and columns of several classes.

Yes/no columns follow the convention of PETA: one output each, weighted binary cross-entropy; mA,
instance accuracy, precision, recall, F1 and mean AP. Columns of several classes follow the PatchIt
paper: a softmax each, with N/A ignored or as a class of its own; accuracy, BER and 11-point AP.
With ``softmax``, yes/no columns are treated as in the paper, too.

The classifier is the backbone's own, so timm and transformers can load it. With ``hidden=512`` the
task has a head of its own instead: the shared FC + ReLU of the paper, and the classifiers.

In a mirrored crop, columns and classes whose names differ in left and right swap their labels.
"""

from __future__ import annotations

from typing import Any, ClassVar

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from patchit_hf.common.errors import InputError
from patchit_hf.downstream.attribute_columns import choose_columns
from patchit_hf.downstream.base import DownstreamTask, Report
from patchit_hf.downstream.columns import swapped
from patchit_hf.downstream.heads import hidden_head
from patchit_hf.downstream.labels import LabelColumn
from patchit_hf.downstream.results import AttributesResult
from patchit_hf.metrics.attributes import binary_attributes, class_attributes

NA = "n/a"


class Task(DownstreamTask):
    """Several labels per image, each of which may be missing.

    Args:
        columns: the label columns, in order.
        hidden: width of a shared hidden layer before the classifiers, 0 for none.
        softmax: treat yes/no columns as two classes with a softmax.
        na: what a missing label means: ``ignore`` leaves it out of loss and metrics, ``class``
            makes it another class of the columns with several classes.
        weighted: give rare answers of yes/no columns more weight (Li et al., "Multi-attribute
            Learning for Pedestrian Attribute Recognition in Surveillance Scenarios", ACPR 2015).

    Raises:
        InputError: for a value out of range, or no columns at all.

    Example:
        >>> import datasets
        >>> data = {"bag_left": [1, 0, -1], "view": ["front", "back", "side"]}
        >>> rows = datasets.Dataset.from_dict(data)
        >>> task = Task.from_dataset(rows, columns=["bag_left", "view"])
        >>> task.targets(rows).tolist()  # -1: no label
        [[1, 1], [0, 0], [-1, 2]]
        >>> task.label_names
        ['bag_left', 'view=back', 'view=front', 'view=side']
    """

    NA_CHOICES: ClassVar[tuple[str, ...]] = ("ignore", "class")

    def __init__(
        self,
        *,
        columns: list[LabelColumn],
        hidden: int = 0,
        softmax: bool = False,
        na: str = "ignore",
        weighted: bool = True,
    ) -> None:
        if not columns:
            raise InputError("--task attributes: no label column; name some: columns=[a, b]")
        if na not in self.NA_CHOICES:
            raise InputError(f"na={na!r} in --task-kwargs: {' or '.join(self.NA_CHOICES)}")
        if not isinstance(hidden, int) or hidden < 0:
            raise InputError(f"hidden={hidden!r} in --task-kwargs: a whole number, 0 for none")
        self.label_columns, self.hidden, self.softmax = columns, hidden, softmax
        self.na, self.weighted = na, weighted
        self.binary = [i for i, c in enumerate(columns) if c.binary and not softmax]
        self.several = [i for i in range(len(columns)) if i not in self.binary]
        self.weights: Tensor | None = None
        names = swapped([c.name for c in columns])
        self._columns = torch.tensor(names)
        self._values = [swapped(columns[i].classes) for i in range(len(columns))]

    @classmethod
    def from_dataset(
        cls,
        dataset: datasets.Dataset,
        *,
        columns: list[str] | None = None,
        names: list[str] | None = None,
        unknown: int | None = None,
        hidden: int = 0,
        softmax: bool = False,
        na: str = "ignore",
        weighted: bool = True,
    ) -> Self:
        """Build the task from a training split.

        The columns are those that look like attributes by default, and a message names the others.
        A column of vectors is a column for each entry, called as ``names`` says. ``unknown`` is a
        number that is no label, beside those below 0; see ``choose_columns``.
        """
        found = choose_columns(dataset, _words(columns), _words(names), unknown)
        return cls(columns=found, hidden=hidden, softmax=softmax, na=na, weighted=weighted)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments that rebuild this task, as JSON values."""
        return {
            "columns": [column.kwargs for column in self.label_columns],
            "hidden": self.hidden,
            "softmax": self.softmax,
            "na": self.na,
            "weighted": self.weighted,
        }

    @classmethod
    def from_kwargs(cls, kwargs: dict[str, Any]) -> Self:
        """Rebuild a task from its ``kwargs``."""
        return cls(**{**kwargs, "columns": [LabelColumn(**c) for c in kwargs["columns"]]})

    @property
    def primary_metric(self) -> str:
        """Mean AP of the yes/no columns, or the accuracy if there are none."""
        return "map" if self.binary else "class_accuracy"

    @property
    def outputs(self) -> list[int]:
        """Number of outputs of each column."""
        extra = int(self.na == "class")
        return [
            1 if i in self.binary else len(c.classes) + extra
            for i, c in enumerate(self.label_columns)
        ]

    @property
    def num_classes(self) -> int:
        """Number of outputs of the backbone's classifier; 0 with a hidden layer."""
        return 0 if self.hidden else sum(self.outputs)

    @property
    def label_names(self) -> list[str]:
        """Names of the outputs: ``hat`` of a yes/no column, ``coat=red`` of another one."""
        names: list[str] = []
        for i, column in enumerate(self.label_columns):
            if i in self.binary:
                names.append(column.name)
            else:
                classes = [*column.classes, *([NA] if self.na == "class" else [])]
                names += [f"{column.name}={value}" for value in classes]
        return names

    @property
    def multi_label(self) -> bool:
        """True: an image may have several labels."""
        return True

    def head(self, num_features: int) -> nn.Module | None:
        """Return the head of the paper, or None without a hidden layer."""
        return hidden_head(num_features, self.hidden, sum(self.outputs)) if self.hidden else None

    def targets(self, dataset: datasets.Dataset) -> Tensor:
        """Return class indices, int64 ``[N, A]``; -1 for no label."""
        return torch.stack([column.encode(dataset) for column in self.label_columns], 1)

    def fit(self, targets: Tensor) -> Self:
        """Return this task with the frequency of each yes in targets ``[N, A]``."""
        known = targets[:, self.binary] >= 0
        yes = ((targets[:, self.binary] == 1) & known).sum(0) / known.sum(0).clamp(min=1)
        return self._with(weights=yes.to(torch.float32))

    def groups(self, targets: Tensor) -> Tensor:
        """Return which row shows which class of which column, bool ``[N, G]``."""
        shown = [
            targets[:, i, None] == torch.arange(len(c.classes))
            for i, c in enumerate(self.label_columns)
        ]
        return torch.cat(shown, 1)

    def mirrored(self, targets: Tensor) -> Tensor:
        """Swap columns and classes whose names differ in left and right."""
        columns = []
        for source in self._columns.tolist():
            values = targets[:, source]
            table = torch.tensor([*self._values[source], -1], device=values.device)
            columns.append(table[values])  # -1, no label, reads the last entry
        return torch.stack(columns, 1)

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the mean loss over columns; missing labels add nothing."""
        total, parts = output.new_zeros(()), output.float().split(self.outputs, 1)
        if self.binary:
            logits = torch.cat([parts[i] for i in self.binary], 1)
            truth = targets[:, self.binary]
            known = (truth >= 0).to(logits.dtype)
            if self.weighted and self.weights is not None:
                share = self.weights.to(logits.device)
                known = known * torch.where(truth == 1, (1 - share).exp(), share.exp())
            each = F.binary_cross_entropy_with_logits(
                logits, truth.clamp(min=0).to(logits.dtype), weight=known, reduction="sum"
            )
            total = total + each / max(len(targets), 1)
        for i in self.several:
            truth = self._numbered(targets[:, i], i)
            each = F.cross_entropy(parts[i], truth, ignore_index=-1, reduction="sum")
            total = total + each / max(len(targets), 1)
        return {"loss": total / len(self.label_columns)}

    def _numbered(self, truth: Tensor, column: int) -> Tensor:
        if self.na == "ignore":
            return truth
        return torch.where(truth < 0, len(self.label_columns[column].classes), truth)

    def predict(self, output: Tensor) -> Tensor:
        """Return probabilities ``[B, outputs]``."""
        parts = output.float().split(self.outputs, 1)
        return torch.cat(
            [p.sigmoid() if i in self.binary else p.softmax(1) for i, p in enumerate(parts)], 1
        )

    def measure(self, predictions: Tensor, targets: Tensor) -> Report:
        """Return the metrics of PETA for yes/no columns, and those of the paper for the others."""
        parts = predictions.split(self.outputs, 1)
        summary: dict[str, float] = {}
        table: list[dict[str, Any]] = []
        if self.binary:
            names = [self.label_columns[i].name for i in self.binary]
            scores = torch.cat([parts[i] for i in self.binary], 1)
            metrics, rows = binary_attributes(scores, targets[:, self.binary], names)
            summary |= metrics
            table += rows
        if self.several:
            metrics, rows = self._several([parts[i] for i in self.several], targets)
            summary |= metrics
            table += rows
        return Report(summary, table)

    def _several(
        self, parts: list[Tensor], targets: Tensor
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Return both evaluations of the paper: classification, and retrieval without N/A."""
        columns = [self.label_columns[i] for i in self.several]
        names = [c.name for c in columns]
        classes = [[*c.classes, *([NA] if self.na == "class" else [])] for c in columns]
        truth = torch.stack([self._numbered(targets[:, i], i) for i in self.several], 1)
        found, rows = class_attributes(parts, truth, names, classes)
        ranked, theirs = found, rows
        if self.na == "class":
            known = [part[:, :-1] for part in parts]
            ranked, theirs = class_attributes(
                known, targets[:, self.several], names, [c.classes for c in columns]
            )
        rows = [{**row, "ap": other["ap"]} for row, other in zip(rows, theirs, strict=True)]
        metrics = {"class_accuracy": found.get("accuracy"), "mber": found.get("mber")}
        metrics["class_map"] = ranked.get("map")
        return {k: v for k, v in metrics.items() if v is not None}, rows

    def result(self, prediction: Tensor) -> AttributesResult:
        """Return the answers and the probabilities ``[outputs]`` by name."""
        labels: dict[str, bool | str] = {}
        parts = prediction.split(self.outputs)
        for i, (column, part) in enumerate(zip(self.label_columns, parts, strict=True)):
            classes = [*column.classes, NA]
            yes = i in self.binary
            labels[column.name] = bool(part >= 0.5) if yes else classes[int(part.argmax())]
        named = zip(self.label_names, prediction.tolist(), strict=True)
        return AttributesResult(labels, dict(named))

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Return the probability of every output, by name."""
        return {name: predictions[:, i].tolist() for i, name in enumerate(self.label_names)}


def _words(given: list[str] | str | None) -> list[str] | None:
    """Return names that may be given as one text with commas."""
    return [name.strip() for name in given.split(",")] if isinstance(given, str) else given

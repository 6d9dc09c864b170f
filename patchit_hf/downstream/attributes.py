"""Person attributes: yes/no columns, and columns of several classes.

Yes/no columns follow PETA's convention: one output each, weighted binary cross entropy, mA,
instance accuracy, precision, recall, F1 and mean AP. Columns of more classes follow the PatchIt
paper's: one softmax each, N/A ignored or a class of its own; accuracy, BER, 11-point AP. With
``softmax`` the yes/no columns are treated the paper's way, too.

The classifier is the backbone's own, so that timm and transformers load it; ``hidden=512`` puts the
paper's shared FC + ReLU before it, as a head of its own.

A mirrored crop swaps columns and classes whose names differ in left and right.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.downstream.base import DownstreamTask, Report
from patchit_hf.downstream.columns import (
    LabelColumn,
    attribute_columns,
    read_column,
    swapped,
)
from patchit_hf.downstream.heads import hidden_head
from patchit_hf.errors import InputError
from patchit_hf.metrics.attributes import binary_attributes, class_attributes

NA = "n/a"


class Task(DownstreamTask):
    """Attributes of a person.

    Args:
        columns: the label columns, in order.
        hidden: width of a shared hidden layer before the classifiers, 0 for none.
        softmax: treat yes/no columns as two classes with a softmax.
        na: ``ignore`` for no loss and no score where there is no label, ``class`` for a class of
            its own in columns of several classes.
        weighted: weigh rare answers of yes/no columns more (Li et al., "Multi-attribute Learning
            for Pedestrian Attribute Recognition in Surveillance Scenarios", ACPR 2015).
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
        dataset: Any,
        *,
        columns: list[str] | None = None,
        hidden: int = 0,
        softmax: bool = False,
        na: str = "ignore",
        weighted: bool = True,
    ) -> Self:
        """Build the task; without ``columns`` every column that looks like an attribute is one."""
        if isinstance(columns, str):
            columns = [name.strip() for name in columns.split(",")]
        names = columns or attribute_columns(dataset)
        found = [read_column(dataset, name) for name in names]
        return cls(columns=found, hidden=hidden, softmax=softmax, na=na, weighted=weighted)

    @property
    def kwargs(self) -> dict[str, Any]:
        """What builds this task again."""
        return {
            "columns": [vars(column) for column in self.label_columns],
            "hidden": self.hidden,
            "softmax": self.softmax,
            "na": self.na,
            "weighted": self.weighted,
        }

    @classmethod
    def from_kwargs(cls, kwargs: dict[str, Any]) -> Self:
        """Build the task from what ``kwargs`` was."""
        return cls(**{**kwargs, "columns": [LabelColumn(**c) for c in kwargs["columns"]]})

    @property
    def primary_metric(self) -> str:
        """Mean AP of the yes/no columns; accuracy where there are none."""
        return "map" if self.binary else "class_accuracy"

    @property
    def outputs(self) -> list[int]:
        """Outputs of each column."""
        extra = int(self.na == "class")
        return [
            1 if i in self.binary else len(c.classes) + extra
            for i, c in enumerate(self.label_columns)
        ]

    @property
    def num_classes(self) -> int:
        """Outputs of the backbone's classifier."""
        return 0 if self.hidden else sum(self.outputs)

    @property
    def label_names(self) -> list[str]:
        """``hat`` for a yes/no column, ``colour=red`` for a class of another."""
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
        """Each output is a question of its own."""
        return True

    def head(self, num_features: int) -> nn.Module | None:
        """Return the paper's head where a hidden layer is asked for."""
        return hidden_head(num_features, self.hidden, sum(self.outputs)) if self.hidden else None

    def targets(self, dataset: Any) -> Tensor:
        """Return class numbers int64 ``[N, A]``, -1 for no label."""
        return torch.stack([column.encode(dataset) for column in self.label_columns], 1)

    def fit(self, targets: Tensor) -> Self:
        """Return this task with how frequent each yes is in targets ``[N, A]``."""
        known = targets[:, self.binary] >= 0
        yes = ((targets[:, self.binary] == 1) & known).sum(0) / known.sum(0).clamp(min=1)
        return self._with(weights=yes.to(torch.float32))

    def groups(self, targets: Tensor) -> Tensor:
        """Return which row shows which class of which column."""
        shown = [
            targets[:, i, None] == torch.arange(len(c.classes))
            for i, c in enumerate(self.label_columns)
        ]
        return torch.cat(shown, 1)

    def mirrored(self, targets: Tensor) -> Tensor:
        """Swap what left and right tell apart."""
        columns = []
        for source in self._columns.tolist():
            values = targets[:, source]
            table = torch.tensor([*self._values[source], -1], device=values.device)
            columns.append(table[values])  # -1, no label, reads the last entry
        return torch.stack(columns, 1)

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the mean over the columns; what has no label gives none."""
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
        """Return PETA's figures for yes/no columns and the paper's for the others."""
        parts = predictions.split(self.outputs, 1)
        summary: dict[str, float] = {}
        table: list[dict[str, Any]] = []
        if self.binary:
            names = [self.label_columns[i].name for i in self.binary]
            scores = torch.cat([parts[i] for i in self.binary], 1)
            figures, rows = binary_attributes(scores, targets[:, self.binary], names)
            summary |= figures
            table += rows
        if self.several:
            figures, rows = self._several([parts[i] for i in self.several], targets)
            summary |= figures
            table += rows
        return Report(summary, table)

    def _several(
        self, parts: list[Tensor], targets: Tensor
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Return the paper's two evaluations: classification, and retrieval without N/A."""
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
        figures = {"class_accuracy": found.get("accuracy"), "mber": found.get("mber")}
        figures["class_map"] = ranked.get("map")
        return {k: v for k, v in figures.items() if v is not None}, rows

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Return the probability of every output by its name."""
        return {name: predictions[:, i].tolist() for i, name in enumerate(self.label_names)}

"""Re-identification: find the same person in another image.

BNNeck, label-smoothed identity loss and batch-hard triplet loss on P people with K images each
(Luo et al., CVPRW 2019; Hermans et al., "In Defense of the Triplet Loss", 2017). Evaluated with
CMC and mAP by the rules of Market-1501, on features averaged over each crop and its mirror image.

People are named by ``person_id`` (numbers or words; None, NaN, numbers below 0 and words such as
``""`` and ``"-1"`` mean nobody), cameras by ``camera`` (the same mean unknown, and different from
every other camera). A row whose ``distractor`` is true shows somebody whom nobody searches for.
Unless query and gallery are separate splits, every row of a split searches all other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from patchit_hf.common.draws import Draws, epoch_order
from patchit_hf.common.errors import InputError
from patchit_hf.data.columns import DISTRACTOR, NOBODY, missing
from patchit_hf.downstream.augment import Augmentation
from patchit_hf.downstream.base import DownstreamTask, Report
from patchit_hf.downstream.columns import CAMERA_COLUMNS, column_values, find_column, require
from patchit_hf.downstream.heads import BNNeck
from patchit_hf.downstream.identities import camera_number, hashed, numeral, plain
from patchit_hf.downstream.results import ReidResult
from patchit_hf.metrics.retrieval import Embeddings, Retrieval, retrieve

ID_COLUMNS = ("person_id", "pid", "identity")
BOTH, QUERY, GALLERY = 0, 1, 2  # the roles of a row
TOGETHER = 8  # people of one source that follow each other: a batch of 32 crops, four of each


class Task(DownstreamTask):
    """Embeddings that are close for images of the same person.

    Args:
        id_column: the column that names people.
        camera_column: the column that names cameras, or None.
        identities: number of people in the training split; see ``fit``.
        pictures: number of images of each person in a batch (K).
        margin: margin of the triplet loss.
        smoothing: label smoothing of the identity loss.
        distractor: the identity of images of people that nobody searches for, such as 0 in
            Market-1501.
        source_column: the column that names where a crop is from, such as a site or a data set, or
            None. Eight people of one source then follow each other, so that a batch of 32 crops
            cannot be told apart by light and background alone.

    Raises:
        InputError: for a value out of range.

    Example:
        >>> import datasets, torch
        >>> data = {"person_id": ["ann", "bob", "ann", "bob"], "camera": [0, 0, 1, 1]}
        >>> rows = datasets.Dataset.from_dict(data)
        >>> task = Task.from_dataset(rows)
        >>> targets = task.targets(rows)
        >>> task.fit(targets).identities
        2
        >>> embeddings = torch.tensor([[1.0, 0.1], [0.1, 1.0], [1.0, 0.0], [0.0, 1.0]])
        >>> task.measure(embeddings, targets).summary["map"]
        1.0
    """

    augmentation = Augmentation(zoom=0.1, shift=0.08, erase=0.5)
    flips = True
    people_in_names = True

    def __init__(
        self,
        *,
        id_column: str,
        camera_column: str | None,
        identities: int,
        pictures: int = 4,
        margin: float = 0.3,
        smoothing: float = 0.1,
        distractor: int | str | None = None,
        source_column: str | None = None,
    ) -> None:
        if not isinstance(pictures, int) or pictures < 2:
            raise InputError(f"pictures={pictures!r} in --task-kwargs: a whole number from 2")
        for name, value in (("margin", margin), ("smoothing", smoothing)):
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise InputError(f"{name}={value!r} in --task-kwargs: a number from 0, below 1")
        self.id_column, self.camera_column = id_column, camera_column
        self.identities, self.pictures = identities, pictures
        self.margin, self.smoothing, self.distractor = margin, smoothing, distractor
        self.source_column = source_column
        self.named = False
        self.known = torch.empty(0, dtype=torch.int64)
        self._by_person: list[Tensor] = []
        self._sources: Tensor | None = None  # of the people

    @classmethod
    def from_dataset(
        cls,
        dataset: datasets.Dataset,
        *,
        id_column: str | None = None,
        camera_column: str | None = None,
        pictures: int = 4,
        margin: float = 0.3,
        smoothing: float = 0.1,
        distractor: int | str | None = None,
        source_column: str | None = None,
    ) -> Self:
        """Build the task from a training split; ``fit`` adds the people that are trained on."""
        found = find_column(dataset, id_column, ID_COLUMNS, "id_column")
        camera = camera_column or next(
            (c for c in CAMERA_COLUMNS if c in dataset.column_names), None
        )
        for column in (camera, source_column):
            if column is not None:
                require(dataset, column)
        return cls(
            id_column=found, camera_column=camera, identities=0, pictures=pictures,
            margin=margin, smoothing=smoothing, distractor=distractor, source_column=source_column,
        )  # fmt: skip

    @property
    def primary_metric(self) -> str:
        """Mean average precision of the search."""
        return "map"

    def targets(self, dataset: datasets.Dataset) -> Tensor:
        """Return int64 ``[N, 4]``: person, camera, role, source.

        The person is -1 for nobody and 0 for a distractor; camera and source are -1 if unknown.
        """
        require(dataset, self.id_column)
        people = [self._number(value) for value in self._values(dataset, self.id_column)]
        feature = dataset.features.get(DISTRACTOR)
        if isinstance(feature, datasets.Value) and feature.dtype == "bool":
            others = column_values(dataset, DISTRACTOR)
            people = [0 if other else p for p, other in zip(people, others, strict=True)]
        cameras = [-1] * len(people)
        if self.camera_column is not None and self.camera_column in dataset.column_names:
            cameras = [camera_number(value) for value in self._values(dataset, self.camera_column)]
        sources = [-1] * len(people)
        if self.source_column is not None and self.source_column in dataset.column_names:
            sources = [camera_number(v) for v in self._values(dataset, self.source_column)]
        roles = [BOTH] * len(people)
        return torch.tensor([people, cameras, roles, sources], dtype=torch.int64).T

    def by_name(self) -> Self:
        """Return this task with people and cameras compared by the names of their classes."""
        return self._with(named=True)

    def _values(self, dataset: datasets.Dataset, column: str) -> list[Any]:
        values = column_values(dataset, column)
        feature = dataset.features[column]
        if not self.named:
            return values
        if isinstance(feature, datasets.ClassLabel):
            values = [None if missing(value) else feature.names[value] for value in values]
        return [numeral(value) for value in values]

    def _number(self, value: Any) -> int:
        if missing(value, NOBODY):
            return -1
        value = plain(value)
        distractor = self.distractor is not None and str(value) == str(self.distractor)
        return 0 if distractor else hashed(value)

    def usable(self, targets: Tensor) -> Tensor:
        """Return which rows show a person of whom there are at least two images."""
        people, where, counts = targets[:, 0].unique(return_inverse=True, return_counts=True)
        usable: Tensor = (people[where] > 0) & (counts[where] > 1)
        return usable

    def refusal(self, targets: Tensor) -> str:
        """Return why none of the rows in targets ``[N, 4]`` can be trained on."""
        people = targets[targets[:, 0] > 0, 0]
        if not len(people):
            return f"column {self.id_column!r}: names nobody"
        return (
            f"column {self.id_column!r}: each of its {len(people)} people has one image; "
            "re-identification learns from people with at least two"
        )

    def unmeasured(self, targets: Tensor) -> str:
        """Return why none of the rows in targets ``[N, 4]`` can be searched for."""
        return (
            f"none of its {len(targets)} images has another image of the same person by another "
            "camera to be found"
        )

    def scored(self, targets: Tensor) -> Tensor:
        """Return all rows: a person with a single image is still part of the gallery."""
        return torch.ones(len(targets), dtype=torch.bool)

    def units(self, targets: Tensor) -> Tensor:
        """Return the person of each row: a fraction of the labels is a fraction of the people."""
        return targets[:, 0]

    def groups(self, targets: Tensor) -> Tensor:
        """Return which row shows which person, bool ``[N, G]``."""
        shown: Tensor = targets[:, :1] == targets[:, 0].unique()[None]
        return shown

    def fit(self, targets: Tensor) -> Self:
        """Return this task with the people in targets ``[N, 4]`` as its classes."""
        known, where = targets[:, 0].unique(return_inverse=True)
        order = where.argsort(stable=True)
        by_person = list(order.split(where.bincount().tolist()))
        sources = None
        if self.source_column is not None:
            sources = targets[torch.stack([mine[0] for mine in by_person]), 3]
        return self._with(
            known=known, identities=len(known), _by_person=by_person, _sources=sources
        )

    def head(self, num_features: int) -> nn.Module:
        """Return the BNNeck."""
        return BNNeck(num_features, self.identities)

    def rows(self, seed: int, numbers: Tensor, targets: Tensor) -> Tensor:
        """Return P people with K images each: K consecutive numbers are one person.

        Every epoch visits each person once, with K randomly chosen images; with a source column,
        eight people of one source after another, and those that are left at its end.
        """
        groups, places = numbers // self.pictures, numbers % self.pictures
        rounds, turns = groups // self.identities, groups % self.identities
        rows = []
        orders = {rnd: self._order(seed, rnd) for rnd in set(rounds.tolist())}
        for group, turn, rnd, place in zip(
            groups.tolist(), turns.tolist(), rounds.tolist(), places.tolist(), strict=True
        ):
            mine = self._by_person[int(orders[rnd][turn])]
            order = Draws(seed, torch.tensor([group])).permutations("pictures", len(mine))[0]
            rows.append(int(mine[order[place % len(mine)]]))
        return torch.tensor(rows)

    def _order(self, seed: int, rnd: int) -> Tensor:
        """Return the people of an epoch in their order, int64 ``[identities]``."""
        order = epoch_order(seed, rnd, self.identities)
        return order if self._sources is None else in_runs(order, self._sources, TOGETHER)

    def loss(self, output: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Return the sum of identity loss and batch-hard triplet loss, and the accuracy."""
        people = torch.searchsorted(self.known.to(targets.device), targets[:, 0].contiguous())
        logits = output["logits"].float()
        identity = F.cross_entropy(logits, people, label_smoothing=self.smoothing)
        triplet = batch_hard(output["pooled"].float(), people, self.margin)
        right = (logits.argmax(1) == people).float().mean()
        return {"loss": identity + triplet, "triplet": triplet, "accuracy": right}

    def predict(self, output: dict[str, Tensor]) -> Tensor:
        """Return embeddings ``[B, C]``."""
        return output["embedding"].float()

    def measure(self, predictions: Tensor, targets: Tensor) -> Report:
        """Return mAP and CMC by the rules of Market-1501."""
        found = self.search(predictions, targets)
        return Report(found.summary(), [{"queries": len(found.queries), "skipped": found.skipped}])

    def resampled(
        self, predictions: Tensor, targets: Tensor
    ) -> tuple[Callable[[Tensor], dict[str, float]], int]:
        """Return metrics as a function of queries, and their count; the gallery stays the same."""
        found = self.search(predictions, targets)
        return found.summary, len(found.queries)

    def search(self, predictions: Tensor, targets: Tensor) -> Retrieval:
        """Return the ranking of the gallery for every query."""
        features = F.normalize(predictions.float(), dim=1)
        roles = targets[:, 2]
        if bool((roles == BOTH).all()):
            all_rows = Embeddings(features, targets[:, 0], targets[:, 1])
            return retrieve(all_rows, all_rows, same_rows=True)
        query, gallery = (
            Embeddings(features[roles == r], targets[roles == r, 0], targets[roles == r, 1])
            for r in (QUERY, GALLERY)
        )
        return retrieve(query, gallery)

    def result(self, prediction: Tensor) -> ReidResult:
        """Return the embedding ``[C]``."""
        return ReidResult(prediction.numpy())

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Return the embeddings."""
        return {"embedding": predictions.tolist()}


def in_runs(order: Tensor, groups: Tensor, length: int) -> Tensor:
    """Return an order in which members of one group follow each other in runs.

    Args:
        order: a random order of all members, int64 ``[N]``.
        groups: the group of each member, int64 ``[N]``.
        length: members of a run; those that fill no run come at the end, in their order.

    Example:
        >>> import torch
        >>> groups = torch.tensor([7, 7, 7, 7, 9, 9, 9])
        >>> in_runs(torch.tensor([4, 0, 5, 1, 2, 6, 3]), groups, length=2).tolist()
        [4, 5, 0, 1, 2, 3, 6]
    """
    places = torch.arange(len(order))
    full: list[Tensor] = []
    rest: list[Tensor] = []
    for group in groups[order].unique():
        mine = places[groups[order] == group]
        whole = len(mine) // length * length
        full += mine[:whole].split(length) if whole else []
        rest.append(mine[whole:])
    full.sort(key=lambda run: int(run[0]))
    return order[torch.cat([*full, torch.cat(rest).sort().values])]


def batch_hard(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the triplet loss with the farthest positive and nearest negative of each image.

    Args:
        features: float ``[B, C]``.
        labels: int64 ``[B]``.
        margin: how much farther than the positive the negative has to be, in Euclidean distance.

    Returns:
        The mean over images that have both, a scalar; 0 if none has.

    Example:
        >>> import torch
        >>> features, labels = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
        >>> batch_hard(features, labels, margin=2.0).item()  # max(1-3+2, 0), max(1-2+2, 0)
        0.5
    """
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive, negative = same & ~itself, ~same
    far = distances.masked_fill(~positive, -torch.inf).amax(1)
    near = distances.masked_fill(~negative, torch.inf).amin(1)
    counts = positive.any(1) & negative.any(1)
    if not bool(counts.any()):
        return features.sum() * 0
    return F.relu(far - near + margin)[counts].mean()

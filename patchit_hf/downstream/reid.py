"""Re-identification: find the same person in another picture.

BNNeck, label-smoothed identity loss and batch-hard triplet loss on P people with K pictures each
(Luo et al., CVPRW 2019; Hermans et al., "In Defense of the Triplet Loss", 2017). Evaluated by
Market-1501's rules on features averaged over each crop and its mirror image: CMC and mAP.

A data set names people by ``person_id`` (numbers or words; -1 and None are nobody), and cameras by
``camera`` (-1 is unknown and counts as another camera than any). Where query and gallery are not
splits of their own, every row of a split searches all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchit_hf.data.draws import Draws, epoch_order
from patchit_hf.downstream.augment import Augmentation
from patchit_hf.downstream.base import DownstreamTask, Report
from patchit_hf.downstream.columns import CAMERA_COLUMNS, column_values, find_column, require
from patchit_hf.downstream.heads import BNNeck
from patchit_hf.errors import InputError
from patchit_hf.metrics.retrieval import Embeddings, Retrieval, retrieve

ID_COLUMNS = ("person_id", "pid", "identity")
BOTH, QUERY, GALLERY = 0, 1, 2  # the roles of a row


class Task(DownstreamTask):
    """Identities across pictures.

    Args:
        id_column: the column that names people.
        camera_column: the column that names cameras, None for none.
        identities: people of the training split, which the identity loss tells apart.
        pictures: K, pictures of a person in a batch.
        margin: the triplet loss' margin.
        smoothing: label smoothing of the identity loss.
        distractor: the identity that stands for "nobody asked for", such as 0 in Market-1501.
    """

    augmentation = Augmentation(zoom=0.1, shift=0.08, erase=0.5)
    flips = True

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
    ) -> None:
        if not isinstance(pictures, int) or pictures < 2:
            raise InputError(f"pictures={pictures!r} in --task-kwargs: a whole number from 2")
        for name, value in (("margin", margin), ("smoothing", smoothing)):
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise InputError(f"{name}={value!r} in --task-kwargs: a number from 0, below 1")
        self.id_column, self.camera_column = id_column, camera_column
        self.identities, self.pictures = identities, pictures
        self.margin, self.smoothing, self.distractor = margin, smoothing, distractor
        self.known = torch.empty(0, dtype=torch.int64)
        self._by_person: list[Tensor] = []

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        id_column: str | None = None,
        camera_column: str | None = None,
        pictures: int = 4,
        margin: float = 0.3,
        smoothing: float = 0.1,
        distractor: int | str | None = None,
    ) -> Self:
        """Build the task; the number of identities is known when the training rows are."""
        found = find_column(dataset, id_column, ID_COLUMNS, "id_column")
        camera = camera_column or next(
            (c for c in CAMERA_COLUMNS if c in dataset.column_names), None
        )
        if camera is not None:
            require(dataset, camera)
        return cls(
            id_column=found, camera_column=camera, identities=0, pictures=pictures,
            margin=margin, smoothing=smoothing, distractor=distractor,
        )  # fmt: skip

    @property
    def kwargs(self) -> dict[str, Any]:
        """What builds this task again."""
        names = (
            "id_column", "camera_column", "identities", "pictures", "margin", "smoothing",
            "distractor",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_kwargs(cls, kwargs: dict[str, Any]) -> Self:
        """Build the task from what ``kwargs`` was."""
        return cls(**kwargs)

    @property
    def primary_metric(self) -> str:
        """Mean average precision of the search."""
        return "map"

    def targets(self, dataset: Any) -> Tensor:
        """Return int64 ``[N, 3]``: person (-1 nobody, 0 distractor), camera (-1 unknown), role."""
        require(dataset, self.id_column)
        people = [self._number(value) for value in column_values(dataset, self.id_column)]
        cameras = [-1] * len(people)
        if self.camera_column is not None and self.camera_column in dataset.column_names:
            names = column_values(dataset, self.camera_column)
            cameras = [_camera(value) for value in names]
        return torch.tensor([people, cameras, [BOTH] * len(people)], dtype=torch.int64).T

    def _number(self, value: Any) -> int:
        if value is None or (isinstance(value, int) and value < 0):
            return -1
        return 0 if value == self.distractor and self.distractor is not None else _hash(value)

    def usable(self, targets: Tensor) -> Tensor:
        """Return which rows show somebody who is in at least two pictures."""
        people, where, counts = targets[:, 0].unique(return_inverse=True, return_counts=True)
        usable: Tensor = (people[where] > 0) & (counts[where] > 1)
        return usable

    def scored(self, targets: Tensor) -> Tensor:
        """Return all rows: whom nobody else shows is still in the gallery."""
        return torch.ones(len(targets), dtype=torch.bool)

    def units(self, targets: Tensor) -> Tensor:
        """Return who is shown: a share of the labels is a share of the people."""
        return targets[:, 0]

    def groups(self, targets: Tensor) -> Tensor:
        """Return which row shows whom."""
        shown: Tensor = targets[:, :1] == targets[:, 0].unique()[None]
        return shown

    def fit(self, targets: Tensor) -> Self:
        """Return this task with the people of targets ``[N, 3]`` numbered."""
        known, where = targets[:, 0].unique(return_inverse=True)
        order = where.argsort(stable=True)
        by_person = list(order.split(where.bincount().tolist()))
        return self._with(known=known, identities=len(known), _by_person=by_person)

    def head(self, num_features: int) -> nn.Module:
        """Return the BNNeck."""
        return BNNeck(num_features, self.identities)

    def rows(self, seed: int, numbers: Tensor, targets: Tensor) -> Tensor:
        """Return P people with K pictures each, a group of K consecutive numbers a person.

        Everybody is visited once an epoch of people; of each person other K pictures every time.
        """
        groups, places = numbers // self.pictures, numbers % self.pictures
        rounds, turns = groups // self.identities, groups % self.identities
        rows = []
        for group, turn, rnd, place in zip(
            groups.tolist(), turns.tolist(), rounds.tolist(), places.tolist(), strict=True
        ):
            mine = self._by_person[int(epoch_order(seed, rnd, self.identities)[turn])]
            order = Draws(seed, torch.tensor([group])).permutations("pictures", len(mine))[0]
            rows.append(int(mine[order[place % len(mine)]]))
        return torch.tensor(rows)

    def loss(self, output: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Return identity loss plus batch-hard triplet loss."""
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
        """Return mAP and CMC of a search by Market-1501's rules."""
        found = self.search(predictions, targets)
        return Report(found.summary(), [{"queries": len(found.queries), "skipped": found.skipped}])

    def resampled(
        self, predictions: Tensor, targets: Tensor
    ) -> tuple[Callable[[Tensor], dict[str, float]], int]:
        """Draw queries again; the gallery stays."""
        found = self.search(predictions, targets)
        return found.summary, len(found.queries)

    def search(self, predictions: Tensor, targets: Tensor) -> Retrieval:
        """Return the ranks of every query."""
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

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Return the embeddings."""
        return {"embedding": predictions.tolist()}


def batch_hard(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the triplet loss of each picture's farthest friend and nearest stranger.

    Args:
        features: ``[B, C]``.
        labels: ``[B]``.
        margin: what the stranger must be farther by, in Euclidean distance.

    Returns:
        The mean over pictures that have both; 0 where none has.
    """
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    friends, strangers = same & ~itself, ~same
    far = distances.masked_fill(~friends, -torch.inf).amax(1)
    near = distances.masked_fill(~strangers, torch.inf).amin(1)
    counts = friends.any(1) & strangers.any(1)
    if not bool(counts.any()):
        return features.sum() * 0
    return F.relu(far - near + margin)[counts].mean()


def _hash(value: Any) -> int:
    digest = hashlib.blake2b(str(value).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 2) + 1


def _camera(value: Any) -> int:
    if value is None or (isinstance(value, int) and value < 0):
        return -1
    return value if isinstance(value, int) else _hash(value)

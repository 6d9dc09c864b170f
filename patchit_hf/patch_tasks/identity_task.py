"""A base class for tasks that also ask: which of the training crops is this from?

The last inputs of a sample, up to the whole person, are asked for their crop. It is a cosine
classifier with a vector for every crop; with more crops than ``table_limit``, and for streams, the
inputs of a batch find each other instead, among those of the batches before (InfoNCE with a queue).
See ``identity`` for the head and the losses.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import Self

from patchit_hf.common.draws import Draws
from patchit_hf.patch_tasks.base import PatchBatch, PatchTask
from patchit_hf.patch_tasks.grid import Grid
from patchit_hf.patch_tasks.identity import (
    EMBEDDING,
    IdentityHead,
    batch_loss,
    retrieval_accuracy,
    table_loss,
)
from patchit_hf.patch_tasks.options import whole, within
from patchit_hf.patch_tasks.transform import cutmix

MOST_CROPS = 2**24  # that targets, which are float32, can tell apart
LONGEST_QUEUE = 2**20
COLUMNS = 4  # of the targets are this question's: crop, partner, share and weight


class IdentityTask(PatchTask):
    """A task that also asks which crop the last inputs of a sample are from.

    A subclass says with which input these start (``first``) and how a whole person is shown
    (``persons_of``). Its head is an ``IdentityHead``, and the last columns of its targets ``[B, K,
    ... + 4]`` are made by ``with_crops``.

    Args:
        canvas: height and width of the crops, in pixels.
        grid: where patches are cut.
        num_classes: number of answers to the task's own question.
        identity_weight: weight of the question which crop it is from; with 0 no person is cut.
        identity_start: share of the training before which that question has no weight, because
            places are learnt sooner than people.
        temperature: the cosines of embeddings are divided by it.
        label_smoothing: probability that the right crop shares with all others.
        cutmix: probability of pasting a part of another person into the person's window. The other
            person is that of the sample before in the batch.
        table_limit: most crops that get a vector each; 0 for InfoNCE always.
        queue: embeddings of the batches before that a batch is compared with where crops have no
            vector; 0 for none.
        table_rate: peak learning rate of these vectors.
        joins: how often crops that are alike are made one class, evenly spread over the training
            from ``identity_start`` on; 0 for never. Each time the network sees every crop once.
        join_neighbours: two crops are compared by so many nearest neighbours of each, and
        join_overlap: joined if so large a share of these is common; see ``groups_of``.
        **options: see ``PatchTransform``.

    Attributes:
        persons: windows of the whole person in a sample: 1, or 0 without the question.
        table_size: number of crops with a vector.

    Raises:
        InputError: for a value out of range.
    """

    def __init__(
        self,
        canvas: tuple[int, int],
        grid: Grid,
        num_classes: int,
        *,
        identity_weight: float = 1.0,
        identity_start: float = 0.2,
        temperature: float = 0.1,
        label_smoothing: float = 0.1,
        cutmix: float = 0.5,
        table_limit: int = 200_000,
        queue: int = 4096,
        table_rate: float = 2e-3,
        joins: int = 0,
        join_neighbours: int = 4,
        join_overlap: float = 0.3,
        **options: Any,
    ) -> None:
        super().__init__(canvas, grid, num_classes, options)
        self.identity_weight = within("identity_weight", identity_weight, 100)
        self.identity_start = within("identity_start", identity_start, 1)
        self.temperature = within("temperature", temperature, 100, low=1e-3)
        self.label_smoothing = within("label_smoothing", label_smoothing, 0.9)
        self.cutmix = within("cutmix", cutmix, 1)
        self.table_limit = whole("table_limit", table_limit, 0)
        within("table_limit", table_limit, MOST_CROPS)
        self.queue = whole("queue", queue, 0)
        within("queue", queue, LONGEST_QUEUE)
        self.table_rate = within("table_rate", table_rate, 1)
        self.joins = whole("joins", joins, 0)
        self.join_neighbours = whole("join_neighbours", join_neighbours, 1)
        self.join_overlap = within("join_overlap", join_overlap, 1)
        self.persons = 1 if identity_weight else 0
        self.table_size = 0

    @property
    def first(self) -> int:
        """Index of the first input that is asked for its crop."""
        raise NotImplementedError

    @property
    def at_once(self) -> bool:
        """Whether the question has its weight from the first step on."""
        return not self.identity_start

    def persons_of(self, crops: Tensor) -> Tensor:
        """Return uint8 crops ``[B, 3, H, W]`` as windows of the person, float32 in [0, 1]."""
        raise NotImplementedError

    def with_crops(self, inputs: Tensor, targets: Tensor, draws: Draws) -> PatchBatch:
        """Return a training batch with this question; CutMix changes its persons.

        Args:
            inputs: ``[B, K, 3, h, w]``, the person last.
            targets: of the task's own question, ``[B, K, n]``.
            draws: the random numbers of the batch.

        Returns:
            These inputs, and targets ``[B, K, n + 4]``.
        """
        unknown = draws.rows is None or not self.table_size
        rows = torch.full((len(inputs),), -1) if unknown else cast(Tensor, draws.rows)
        weight = self.identity_weight if self._counts(draws.progress) else 0.0
        shares = torch.zeros(len(inputs), device=inputs.device)
        if self.table_size and weight and self.cutmix:
            inputs[:, -1], shares = cutmix(inputs[:, -1], self.cutmix, draws)
        return PatchBatch(inputs, self.with_rows(targets, rows, shares, weight))

    def with_rows(self, targets: Tensor, rows: Tensor, shares: Tensor, weight: float) -> Tensor:
        """Return targets ``[B, K, n + 4]`` of crops ``[B]`` and of CutMix's shares ``[B]``."""
        rows = rows.to(targets.device, torch.float32)
        asked = targets.new_zeros((*targets.shape[:2], COLUMNS))
        partners = torch.where(shares > 0, rows.roll(1), rows)
        asked[..., 0], asked[..., 1] = rows[:, None], partners[:, None]
        if self.persons:
            asked[:, -1, 2] = shares
        asked[..., 3] = weight
        return torch.cat([targets, asked], dim=2)

    def for_training(self, head: nn.Module, num_crops: int, seed: int) -> Self:
        """Return the task for so many crops, and give each a vector in the head's table."""
        task = copy.copy(self)
        task.table_size = self._table_size(num_crops)
        owner = cast(IdentityHead, head)
        owner.set_table(task.table_size, seed, joined=self.joins > 0)
        owner.set_queue(self._queue_size(num_crops), seed)
        return task

    def sees_all_after(self, max_steps: int) -> list[int]:
        """Return when this question gets its weight, unless at once, and when to join."""
        start = self.identity_start
        shares = [start + (1 - start) * i / self.joins for i in range(self.joins)] or [start]
        if not self.table_size or (self._counts(0.0) and not self.joins):
            return []
        steps = {math.ceil(share * max_steps) for share in shares}
        return sorted(step for step in steps if 0 < step < max_steps)

    def see_all(
        self,
        head: nn.Module,
        features: Callable[[Tensor], Tensor],
        batches: Iterable[tuple[Tensor, Tensor]],
    ) -> str:
        """Set each crop's vector to the embedding of its person, and join crops that are alike.

        From random vectors the question is learnt several times more slowly.
        """
        owner = cast(IdentityHead, head)
        for rows, crops in batches:
            persons = self.transform(self.persons_of(crops), None)
            owner.fill_table(rows, owner.embedded(features(persons.flatten(0, 1))))
        if not self.joins:
            return ""
        classes = owner.join(self.join_neighbours, self.join_overlap)
        return f"crops that are alike were joined: {self.table_size:,} crops, {classes:,} classes"

    def bytes_per_run(self, num_crops: int) -> int:
        """Return the memory of the table, its gradient and the optimiser's two moments."""
        return 4 * self._table_size(num_crops) * EMBEDDING * 4

    def trained_apart(self, head: nn.Module) -> dict[str, float]:
        """Return the learning rate of the table, if there is one."""
        return {"table": self.table_rate} if self.table_size else {}

    def exported(self, head: nn.Module) -> nn.Module:
        """Return the head without its table, which is of no use without the training crops."""
        return cast(IdentityHead, head).without_table()

    def identity(self, output: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Return ``identity_loss``, and in training ``identity_accuracy`` where there is a table.

        Args:
            output: see ``IdentityHead``.
            targets: see ``with_crops``.
        """
        asked = targets[:, self.first :, -COLUMNS:]
        if "crops" not in output:
            rows = asked[:, 0, 0].to(torch.int64)
            return batch_loss(output["embedding"], rows, self.temperature, output.get("queue"))
        right, partner, share, _ = asked.flatten(0, 1).unbind(1)
        right, partner = right.to(torch.int64), partner.to(torch.int64)
        if "classes" in output:
            right, partner = output["classes"][right], output["classes"][partner]
        mixed = partner, share
        return table_loss(output["crops"], right, mixed, self.temperature, self.label_smoothing)

    def compared(self, batch: PatchBatch) -> Tensor | None:
        """Return the inputs that are asked for their crop, ``[B, K - first, 3, h, w]``."""
        return batch.inputs[:, self.first :] if self.persons else None

    def collected(self, output: dict[str, Tensor], targets: Tensor) -> Tensor | None:
        """Return the crop and the embeddings, ``[B, 1 + (K - first) * D]``."""
        if not self.persons:
            return None
        embedding = output["embedding"].float().view(len(targets), -1)
        return torch.cat([targets[:, 0, -COLUMNS, None], embedding], dim=1)

    def over_all(self, collected: Tensor) -> dict[str, float]:
        """Return how often a part is most like its own person among those of all held-out crops.

        Returns:
            ``retrieval_accuracy``; guessing is right once in as many times as there are crops.
        """
        every = collected[:, 1:].unflatten(1, (self.inputs_per_sample - self.first, -1))
        found = retrieval_accuracy(every[:, :-1], every[:, -1], collected[:, 0])
        return {"retrieval_accuracy": found}

    def _counts(self, progress: float) -> bool:
        """Whether the question has its weight already."""
        return self.at_once or progress >= self.identity_start

    def _queue_size(self, num_crops: int) -> int:
        """Return so few embeddings that a crop rarely meets itself among them."""
        if not self.persons or self._table_size(num_crops):
            return 0
        asked = self.inputs_per_sample - self.first
        return min(self.queue, num_crops * asked // 4) if num_crops else self.queue

    def _table_size(self, num_crops: int) -> int:
        return num_crops if self.persons and num_crops <= self.table_limit else 0

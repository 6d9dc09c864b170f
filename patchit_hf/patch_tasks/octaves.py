"""Octaves: where are this detail and this part of the person, and whose are they?

Windows of the crop's own shape are cut at three scales and brought to one size. A detail is a
quarter of the crop's height and width, a part is a half, and the person is all of it::

    +-----------+     +-----------+     +-----------+
    | +--+      |     |+-----+    |     |+---------+|
    | |  | 1    |     ||     |    |     ||         ||    1, 2: which of 13x7 places is it from?
    | +--+      |     ||  3  |    |     ||         ||    3:    which of 5x5 places is it from?
    |      +--+ |     ||     |    |     ||    4    ||    3, 4: which of the training crops is it?
    |    2 |  | |     |+-----+    |     ||         ||
    |      +--+ |     |           |     |+---------+|
    +-----------+     +-----------+     +-----------+

The light of each window varies on its own, and half of the crops are mirrored before anything is
cut, so that left and right stay classes. The first question needs to know bodies, the second what
tells people apart. It is a cosine classifier with a vector for every crop; with more crops than
``table_limit``, and for streams, parts and persons of a batch find each other instead (InfoNCE).

Sources: Doersch et al., ICCV 2015, and Mundhenk et al., CVPR 2018 (position); Cao & Wu, "Training
Vision Transformers with Only 2040 Images", ECCV 2022 (each image a class, with CutMix and label
smoothing). Inputs ``[B, 4, 3, h, w]``: details, parts, person. Targets ``[B, 4, 116 + 4]``: the
probability of each place (zeros for the person), then crop (-1 without a vector), partner, the
partner's share (CutMix) and the weight of the second question.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import Self

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import PatchBatch, PatchTask
from patchit_hf.patch_tasks.grid import Grid, cut_patches
from patchit_hf.patch_tasks.identity import (
    EMBEDDING,
    IdentityHead,
    batch_loss,
    retrieval_accuracy,
    table_loss,
)
from patchit_hf.patch_tasks.options import rows_and_cols, whole, within
from patchit_hf.patch_tasks.transform import cutmix, vary_light
from patchit_hf.patch_tasks.windows import (
    Octave,
    dense_cells,
    octaves_of,
    resized,
    whole_windows,
)

MOST_CROPS = 2**24  # that targets, which are float32, can tell apart
ASKED = 4  # an evaluation asks so many times as many questions as a training sample


class Task(PatchTask):
    """Name the places of details and parts, and the crop that parts and persons are from.

    Args:
        canvas: height and width of the crops, in pixels.
        details: windows of a quarter of the height and width cut from each crop, 0 for none.
        parts: windows of half the height and width cut from each crop, at least 1.
        detail_cells: rows and columns of places of a detail; None for 13 along the longer side and
            as dense along the other.
        part_cells: rows and columns of places of a part.
        jitter: largest random offset of a window from its place, in pixels; at most what keeps that
            place the nearest.
        window: longer side of the network's input, in pixels; the other follows from the canvas.
        mirror: probability of mirroring a crop before windows are cut.
        light: how much light and sharpness of each window vary; see ``vary_light``.
        tint: how much the white balance of each window varies: its red, green and blue are each
            multiplied by up to this share more or less.
        smooth: spread the target over neighbouring places with a Gaussian, whose standard deviation
            starts at this many places and falls to half of it; 0 for hard targets.
        position_weight: weight of the question where a window is from. With 0 the backbone does not
            learn from it: its head is trained beside, and says what the features know of it.
        identity_weight: weight of the question which crop it is from; with 0 no person is cut.
        identity_start: share of the training before which that question has no weight, because
            places are learnt sooner than people; with ``position_weight=0`` it starts at once.
        temperature: the cosines of embeddings are divided by it.
        label_smoothing: probability that the right crop shares with all others.
        cutmix: probability of pasting a part of another person into the person's window. The other
            person is that of the sample before in the batch.
        table_limit: most crops that get a vector each; 0 for InfoNCE always.
        table_rate: peak learning rate of these vectors.
        joins: how often crops that are alike are made one class, evenly spread over the training
            from ``identity_start`` on; 0 for never. Each time the network sees every crop once.
        join_neighbours: two crops are compared by so many nearest neighbours of each, and
        join_overlap: joined if so large a share of these is common; see ``groups_of``.
        head_hidden: width of the head's hidden layers.
        **options: see ``PatchTransform``; ``grayscale`` is 0.1 by default.

    Raises:
        InputError: for a value out of range, or places that the canvas cannot hold.

    Example:
        >>> import torch
        >>> from patchit_hf import create_task
        >>> from patchit_hf.common.draws import Draws
        >>> task = create_task("octaves")
        >>> crops = torch.zeros(4, 3, 200, 100, dtype=torch.uint8)
        >>> batch = task.sample(crops, Draws(seed=0, numbers=torch.arange(4)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 4, 3, 64, 32]), torch.Size([4, 4, 120]))
        >>> task.num_classes, round(task.chance, 3)
        (116, 0.021)
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        *,
        details: int = 2,
        parts: int = 1,
        detail_cells: Sequence[int] | None = None,
        part_cells: Sequence[int] = (5, 5),
        jitter: int = 12,
        window: int = 64,
        mirror: float = 0.5,
        light: float = 1.0,
        tint: float = 0.0,
        smooth: float = 1.0,
        position_weight: float = 1.0,
        identity_weight: float = 1.0,
        identity_start: float = 0.2,
        temperature: float = 0.1,
        label_smoothing: float = 0.1,
        cutmix: float = 0.5,
        table_limit: int = 200_000,
        table_rate: float = 2e-3,
        joins: int = 0,
        join_neighbours: int = 4,
        join_overlap: float = 0.3,
        head_hidden: int = 512,
        **options: Any,
    ) -> None:
        self.details, self.parts = whole("details", details, 0), whole("parts", parts, 1)
        self.window, self.jitter = whole("window", window, 4), whole("jitter", jitter, 0)
        self.head_hidden = whole("head_hidden", head_hidden, 1)
        self.table_limit = whole("table_limit", table_limit, 0)
        within("table_limit", table_limit, MOST_CROPS)
        self.mirror, self.cutmix = within("mirror", mirror, 1), within("cutmix", cutmix, 1)
        self.light, self.smooth = within("light", light, 2), within("smooth", smooth, 10)
        self.tint = within("tint", tint, 1)
        self.position_weight = within("position_weight", position_weight, 100)
        self.identity_weight = within("identity_weight", identity_weight, 100)
        self.identity_start = within("identity_start", identity_start, 1)
        self.temperature = within("temperature", temperature, 100, low=1e-3)
        self.label_smoothing = within("label_smoothing", label_smoothing, 0.9)
        self.table_rate = within("table_rate", table_rate, 1)
        self.joins = whole("joins", joins, 0)
        self.join_neighbours = whole("join_neighbours", join_neighbours, 1)
        self.join_overlap = within("join_overlap", join_overlap, 1)
        if not position_weight and not identity_weight:
            raise InputError(
                "position_weight=0 identity_weight=0 in --task-kwargs: there is nothing to learn"
            )
        cells = dense_cells(canvas) if detail_cells is None else detail_cells
        self.detail_cells = rows_and_cols("detail_cells", cells)
        self.part_cells = rows_and_cols("part_cells", part_cells)
        scales = (
            ("detail", self.details, self.detail_cells, 4),
            ("part", self.parts, self.part_cells, 2),
        )
        self.octaves = octaves_of(canvas, scales, self.jitter)
        grid = Grid(1, 1, min(canvas), 0, 0, canvas)
        places = sum(octave.lattice.num_cells for octave in self.octaves)
        super().__init__(canvas, grid, places, {"grayscale": 0.1, **options})
        self.persons = 1 if identity_weight else 0
        self.inputs_per_sample = self.details + self.parts + self.persons
        self.table_size = 0  # crops with a vector

    @property
    def positions(self) -> int:
        """Number of windows in a sample whose place is asked."""
        return self.details + self.parts

    @property
    def boxes(self) -> Tensor:
        """A tile around the middle of each place, details first, int64 ``[classes, 4]``."""
        return torch.cat([octave.lattice.boxes for octave in self.octaves])

    @property
    def chance(self) -> float:
        """Accuracy of guessing; it is known which windows are details and which are parts."""
        shares = [octave.windows / octave.lattice.num_cells for octave in self.octaves]
        return sum(shares) / self.positions

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input of the backbone, in pixels."""
        height, width = (round(s * self.transform.input_scale) for s in self._window(self.canvas))
        return height, width

    @property
    def covered(self) -> tuple[int, int]:
        """The whole canvas, in pixels."""
        return self.canvas

    @property
    def crop_scale(self) -> float:
        """Scale of the parts: whole crops at this scale show what parts have shown."""
        return 2 * max(self.input_size) / max(self.canvas)

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut details, parts and the person from every crop, each in its own light.

        Returns:
            Inputs float32 ``[B, K, 3, h, w]`` and targets float32 ``[B, K, classes + 4]``.
        """
        flipped = (draws.uniform("mirror") < self.mirror)[:, None, None, None]
        crops = torch.where(flipped, crops.flip(3), crops)
        cells = [draws.integers(o.name, o.lattice.num_cells, (o.windows,)) for o in self.octaves]
        deviation = self.smooth * (1 - draws.progress / 2)
        views, places = self._cut(crops, cells, draws, deviation)
        if self.persons:
            views.append(whole_windows(crops, self._window(self.canvas), draws))
        windows = torch.cat(views, dim=1)
        inputs = self.transform(vary_light(windows, self.light, draws, self.tint), draws)
        unknown = draws.rows is None or not self.table_size
        rows = torch.full((len(crops),), -1) if unknown else cast(Tensor, draws.rows)
        rows = rows.to(crops.device, torch.float32)
        weight = self.identity_weight if self._counts(draws.progress) else 0.0
        shares = torch.zeros(len(crops), device=crops.device)
        if self.table_size and weight and self.cutmix:
            inputs[:, -1], shares = cutmix(inputs[:, -1], self.cutmix, draws)
        return PatchBatch(inputs, self._targets(places, rows, shares, weight))

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Ask four samples' questions about every crop, each place at most once.

        Returns:
            Inputs float32 ``[B * 4, K, 3, h, w]`` and targets ``[B * 4, K, classes + 4]``; fewer
            than 4 where there are not as many places.
        """
        times = min([ASKED, *(o.lattice.num_cells // o.windows for o in self.octaves)])
        times = max(times, 1)
        cells = [self._some(octave, times, draws) for octave in self.octaves]
        views, places = self._cut(crops, cells, draws, 0.0)
        views = [view.unflatten(1, (times, -1)) for view in views]
        if self.persons:
            person = resized(crops[:, None], self._window(self.canvas))
            views.append(person[:, None].expand(-1, times, -1, -1, -1, -1))
        inputs = self.transform(torch.cat(views, dim=2).flatten(0, 1), None)
        places = [place.unflatten(1, (times, -1)).flatten(0, 1) for place in places]
        rows = draws.numbers.to(crops.device, torch.float32).repeat_interleave(times)
        shares = torch.zeros_like(rows)
        return PatchBatch(inputs, self._targets(places, rows, shares, self.identity_weight))

    def head(self, num_features: int) -> nn.Module:
        """Return a classifier over places, and a projection to embeddings."""
        return IdentityHead(
            num_features,
            self.head_hidden,
            self.num_classes,
            inputs=self.inputs_per_sample,
            places=self.positions,
            first=self.details if self.persons else self.inputs_per_sample,
            beside=not self.position_weight,
        )

    def for_training(self, head: nn.Module, num_crops: int, seed: int) -> Self:
        """Return the task for so many crops, and give each a vector in the head's table."""
        task = copy.copy(self)
        task.table_size = self._table_size(num_crops)
        cast(IdentityHead, head).set_table(task.table_size, seed, joined=self.joins > 0)
        return task

    def sees_all_after(self, max_steps: int) -> list[int]:
        """Return when the second question gets its weight, unless at once, and when to join."""
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
            persons = self.transform(resized(crops[:, None], self._window(self.canvas)), None)
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

    def loss(self, output: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Return the weighted sum of both losses, each of them, and both accuracies.

        A loss of 1 is that of guessing: each is divided by the logarithm of the number of answers.

        Args:
            output: see ``IdentityHead``.
            targets: ``[B, K, classes + 4]``.
        """
        answers, truth = self.answers(output), self.truth(targets)
        position = self._position_loss(output["places"].float(), targets)
        values = {
            "accuracy": (answers == truth).to(torch.float32).mean(),
            "position_loss": position,
        }
        total = (self.position_weight or 1.0) * position
        if self.persons:
            weight = targets[:, 0, -1].mean()
            values |= self._identity(output, targets)
            total = total + weight * values["identity_loss"]
        return {"loss": total, **values}

    def truth(self, targets: Tensor) -> Tensor:
        """Return the true places of details and parts, ``[B * positions]``."""
        return targets[:, : self.positions, : self.num_classes].argmax(2).flatten()

    def answers(self, output: dict[str, Tensor]) -> Tensor:
        """Return the places answered, ``[B * positions]``."""
        logits = output["places"]
        answered = [
            logits[:, octave.views, octave.classes].argmax(2) + octave.classes.start
            for octave in self.octaves
        ]
        return torch.cat(answered, dim=1).flatten()

    def examples(self, batch: PatchBatch) -> Tensor:
        """Return details and parts, ``[B * positions, 1, 3, h, w]``."""
        return batch.inputs[:, : self.positions].flatten(0, 1)[:, None]

    def compared(self, batch: PatchBatch) -> Tensor | None:
        """Return parts and person, ``[B, parts + 1, 3, h, w]``."""
        return batch.inputs[:, self.details :] if self.persons else None

    def collected(self, output: dict[str, Tensor], targets: Tensor) -> Tensor | None:
        """Return crop and embeddings of parts and person, ``[B, 1 + (parts + 1) * D]``."""
        if not self.persons:
            return None
        embedding = output["embedding"].float().view(len(targets), -1)
        return torch.cat([targets[:, 0, -4, None], embedding], dim=1)

    def over_all(self, collected: Tensor) -> dict[str, float]:
        """Return how often a part is most like its own person among those of all held-out crops.

        Returns:
            ``retrieval_accuracy``; guessing is right once in as many times as there are crops.
        """
        every = collected[:, 1:].unflatten(1, (self.parts + 1, -1))
        found = retrieval_accuracy(every[:, :-1], every[:, -1], collected[:, 0])
        return {"retrieval_accuracy": found}

    def _window(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the windows after resizing, before ``input_scale``."""
        height, width = (max(1, round(self.window * side / max(canvas))) for side in canvas)
        return height, width

    def _cut(
        self, crops: Tensor, cells: list[Tensor], draws: Draws, deviation: float
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Cut windows at cells ``[B, n]`` of each octave: images, and soft targets."""
        views, places = [], []
        for octave, chosen in zip(self.octaves, cells, strict=True):
            top, left = octave.lattice.place(chosen, draws, octave.name)
            patches = cut_patches(crops, top, left, octave.lattice.size)
            views.append(resized(patches, self._window(self.canvas)))
            places.append(octave.lattice.targets(top, left, deviation))
        return views, places

    def _some(self, octave: Octave, times: int, draws: Draws) -> Tensor:
        """Return an octave's cells for an evaluation, ``[B, times * count]``."""
        cells = draws.permutations(octave.name, octave.lattice.num_cells)
        repeats = math.ceil(octave.windows / octave.lattice.num_cells)  # more windows than places
        return cells.repeat(1, repeats)[:, : times * octave.windows]

    def _targets(self, places: list[Tensor], rows: Tensor, shares: Tensor, weight: float) -> Tensor:
        """Return targets ``[B, K, classes + 4]`` of places, crops ``[B]`` and CutMix's shares."""
        shape = (len(rows), self.inputs_per_sample, self.num_classes + 4)
        targets = torch.zeros(shape, device=rows.device)
        for octave, place in zip(self.octaves, places, strict=True):
            targets[:, octave.views, octave.classes] = place
        partners = torch.where(shares > 0, rows.roll(1), rows)
        targets[..., -4], targets[..., -3] = rows[:, None], partners[:, None]
        if self.persons:
            targets[:, -1, -2] = shares
        targets[..., -1] = weight
        return targets

    def _position_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of soft targets, as a share of that of guessing."""
        losses = []
        for octave in self.octaves:
            share = torch.log_softmax(logits[:, octave.views, octave.classes], dim=2)
            wanted = targets[:, octave.views, octave.classes]
            guessing = math.log(max(octave.lattice.num_cells, 2))
            losses.append(-(wanted * share).sum(2) / guessing)
        return torch.cat(losses, dim=1).mean()

    def _identity(self, output: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Return the loss of parts and persons, and in training their accuracy."""
        if "crops" not in output:
            rows = targets[:, 0, -4].to(torch.int64)
            return batch_loss(output["embedding"], rows, self.temperature)
        right, partner, share, _ = targets[:, self.details :, -4:].flatten(0, 1).unbind(1)
        right, partner = right.to(torch.int64), partner.to(torch.int64)
        if "classes" in output:
            right, partner = output["classes"][right], output["classes"][partner]
        return table_loss(
            output["crops"],
            right,
            (partner, share),
            self.temperature,
            self.label_smoothing,
        )

    def _counts(self, progress: float) -> bool:
        """Whether the second question has its weight already."""
        return not self.position_weight or progress >= self.identity_start

    def _table_size(self, num_crops: int) -> int:
        return num_crops if self.persons and num_crops <= self.table_limit else 0

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
``table_limit``, and for streams, parts and persons of a batch find each other instead, among those
of the batches before (InfoNCE with a queue).

Sources: Doersch et al., ICCV 2015, and Mundhenk et al., CVPR 2018 (position); Cao & Wu, "Training
Vision Transformers with Only 2040 Images", ECCV 2022 (each image a class, with CutMix and label
smoothing); He et al., "Momentum Contrast", CVPR 2020 (the queue; here without
momentum). Inputs ``[B, 4, 3, h, w]``: details, parts, person. Targets ``[B, 4, 116 + 4]``: the
probability of each place (zeros for the person), then crop (-1 without a vector), partner, the
partner's share (CutMix) and the weight of the second question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.patch_tasks.base import PatchBatch
from patchit_hf.patch_tasks.grid import Grid
from patchit_hf.patch_tasks.identity import IdentityHead
from patchit_hf.patch_tasks.identity_task import IdentityTask
from patchit_hf.patch_tasks.options import rows_and_cols, whole, within
from patchit_hf.patch_tasks.windows import (
    cut_octaves,
    dense_cells,
    octaves_of,
    resized,
    some_places,
    whole_windows,
)

VARIED = {"mirror": 0.5, "light": 1.0, "grayscale": 0.1}  # options of the transform
ASKED = 4  # an evaluation asks so many times as many questions as a training sample


class Task(IdentityTask):
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
        smooth: spread the target over neighbouring places with a Gaussian, whose standard deviation
            starts at this many places and falls to half of it; 0 for hard targets.
        position_weight: weight of the question where a window is from. With 0 the backbone does not
            learn from it: its head is trained beside, and says what the features know of it; the
            other question then has its weight from the first step on.
        head_hidden: width of the head's hidden layers.
        **options: see ``IdentityTask`` and ``PatchTransform``; by default ``mirror=0.5 light=1
            grayscale=0.1``.

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
        smooth: float = 1.0,
        position_weight: float = 1.0,
        head_hidden: int = 512,
        **options: Any,
    ) -> None:
        self.details, self.parts = whole("details", details, 0), whole("parts", parts, 1)
        self.window, self.jitter = whole("window", window, 4), whole("jitter", jitter, 0)
        self.head_hidden = whole("head_hidden", head_hidden, 1)
        self.smooth = within("smooth", smooth, 10)
        self.position_weight = within("position_weight", position_weight, 100)
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
        super().__init__(canvas, grid, places, **{**VARIED, **options})
        if not position_weight and not self.persons:
            raise InputError(
                "position_weight=0 identity_weight=0 in --task-kwargs: there is nothing to learn"
            )
        self.inputs_per_sample = self.positions + self.persons

    @property
    def first(self) -> int:
        """Index of the first part; details are too small to tell people apart."""
        return self.details

    @property
    def at_once(self) -> bool:
        """Whether there are no places to learn before people, or no time to."""
        return not self.position_weight or super().at_once

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
        height, width = (round(side * self.transform.input_scale) for side in self.window_size)
        return height, width

    @property
    def window_size(self) -> tuple[int, int]:
        """Height and width of the windows after resizing, before ``input_scale``, in pixels."""
        height, width = (max(1, round(self.window * s / max(self.canvas))) for s in self.canvas)
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
        crops = self.transform.mirrored(crops, draws)
        cells = [draws.integers(o.name, o.lattice.num_cells, (o.windows,)) for o in self.octaves]
        deviation = self.smooth * (1 - draws.progress / 2)
        views, places = cut_octaves(self.octaves, crops, cells, self.window_size, draws, deviation)
        if self.persons:
            views.append(whole_windows(crops, self.window_size, draws))
        inputs = self.transform(torch.cat(views, dim=1), draws)
        return self.with_crops(inputs, self._targets(places), draws)

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Ask four samples' questions about every crop, each place at most once.

        Returns:
            Inputs float32 ``[B * 4, K, 3, h, w]`` and targets ``[B * 4, K, classes + 4]``; fewer
            than 4 where there are not as many places.
        """
        times = min([ASKED, *(o.lattice.num_cells // o.windows for o in self.octaves)])
        times = max(times, 1)
        cells = [some_places(octave, times, draws) for octave in self.octaves]
        views, places = cut_octaves(self.octaves, crops, cells, self.window_size, draws, 0.0)
        views = [view.unflatten(1, (times, -1)) for view in views]
        if self.persons:
            person = self.persons_of(crops)
            views.append(person[:, None].expand(-1, times, -1, -1, -1, -1))
        inputs = self.transform(torch.cat(views, dim=2).flatten(0, 1), None)
        places = [place.unflatten(1, (times, -1)).flatten(0, 1) for place in places]
        rows = draws.numbers.to(crops.device).repeat_interleave(times)
        shares = torch.zeros(len(rows), device=crops.device)
        targets = self.with_rows(self._targets(places), rows, shares, self.identity_weight)
        return PatchBatch(inputs, targets)

    def persons_of(self, crops: Tensor) -> Tensor:
        """Return whole crops at the size of a window, float32 in [0, 1] ``[B, 1, 3, h, w]``."""
        return resized(crops[:, None], self.window_size)

    def head(self, num_features: int) -> nn.Module:
        """Return a classifier over places, and a projection to embeddings."""
        return IdentityHead(
            num_features,
            self.head_hidden,
            self.num_classes,
            inputs=self.inputs_per_sample,
            places=self.positions,
            first=self.details if self.persons else self.inputs_per_sample,
            beside=self.beside,
        )

    @property
    def beside(self) -> bool:
        """Whether the places are asked beside the training."""
        return not self.position_weight

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
            values |= self.identity(output, targets)
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

    def _targets(self, places: list[Tensor]) -> Tensor:
        """Return targets of places alone, ``[B, K, classes]``."""
        shape = (len(places[0]), self.inputs_per_sample, self.num_classes)
        targets = torch.zeros(shape, device=places[0].device)
        for octave, place in zip(self.octaves, places, strict=True):
            targets[:, octave.views, octave.classes] = place
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

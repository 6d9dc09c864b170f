"""Boxes that take the place of those of a bad picture: ``--on-bad-image replace``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from patchit_hf.crops.cutting.cut import Cut, Job, cut
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.plan import Plan
from patchit_hf.crops.cutting.select import KEPT, LEFT_OUT

GO_ON = "skip goes on without it, replace with later boxes of its tracks"


class StandIns:
    """Who follows whom along a track.

    A wanted box gives way to the next box of its track that was left out only because others stand
    for it, that lies before the next wanted one and in the same source, and whose crop can be kept.
    Where there is none, the box is left out.

    Args:
        plan: what is cut.
        options: how.
    """

    def __init__(self, plan: Plan, options: CropOptions) -> None:
        self._plan, self._options = plan, options
        track = plan.found.track
        self._order = np.argsort(track, kind="stable")
        self._place = np.empty_like(self._order)
        self._place[self._order] = np.arange(len(track))
        self._bad: set[int] = set()

    def replace(self, job: Job, result: Cut) -> None:
        """Add crops in place of those that a bad picture would have given."""
        for number in job.box[job.reasons == KEPT].tolist():
            for other in self._after(number):
                image = int(self._plan.found.image[other])
                if image in self._bad:
                    continue
                instead = cut(self._plan.job_for(other, self._options.max_pixels), self._options)
                if instead.bad:
                    self._bad.add(image)
                if instead.crops:
                    result.crops += instead.crops
                    result.replaced[number] = other
                    break

    def _after(self, box: int) -> Iterator[int]:
        """Yield the boxes that may stand in for one, the next first."""
        plan, found = self._plan, self._plan.found
        if found.track[box] < 0:
            return
        for other in self._order[self._place[box] + 1 :].tolist():
            if found.track[other] != found.track[box] or plan.reasons[other] == KEPT:
                return
            here, there = int(found.image[box]), int(found.image[other])
            same = plan.source[here] == plan.source[there] and here != there
            if same and plan.reasons[other] in LEFT_OUT:
                yield other

"""Replace the boxes of bad images: ``--on-bad-image replace``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from patchit_hf.crops.cutting.cut import Cut, Job, cut
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.plan import Plan
from patchit_hf.crops.cutting.select import KEPT, LEFT_OUT

GO_ON = "skip leaves it out, replace takes later boxes of its tracks"


class StandIns:
    """Finds replacements for the boxes of bad images.

    The replacement is the next box of the same track that was left out by ``keep_every`` or
    ``every``, lies before the next wanted box and in the same source, and whose crop can be kept.
    If there is none, the box is dropped.

    Args:
        plan: the jobs.
        options: how a box becomes a crop.
    """

    def __init__(self, plan: Plan, options: CropOptions) -> None:
        self._plan, self._options = plan, options
        track = plan.found.track
        self._order = np.argsort(track, kind="stable")
        self._rank = np.empty_like(self._order)
        self._rank[self._order] = np.arange(len(track))
        self._bad: set[int] = set()

    def replace(self, job: Job, result: Cut) -> None:
        """Add crops that replace those of a bad image.

        Args:
            job: the job of the bad image.
            result: its result, which the crops are added to.
        """
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
        """Yield the boxes that may replace the given one, nearest first."""
        plan, found = self._plan, self._plan.found
        if found.track[box] < 0:
            return
        for other in self._order[self._rank[box] + 1 :].tolist():
            if found.track[other] != found.track[box] or plan.reasons[other] == KEPT:
                return
            here, there = int(found.image[box]), int(found.image[other])
            same = plan.source[here] == plan.source[there] and here != there
            if same and plan.reasons[other] in LEFT_OUT:
                yield other

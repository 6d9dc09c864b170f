"""Cut a plan's jobs in order, in one or more processes or machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from patchit_hf.common.errors import InputError
from patchit_hf.common.progress import Progress
from patchit_hf.crops.cutting.cut import Cut, Job, cut
from patchit_hf.crops.cutting.engine import MAKERS, Engine, Result
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.plan import Plan
from patchit_hf.crops.cutting.shards import Shards
from patchit_hf.crops.cutting.stand_ins import GO_ON, StandIns
from patchit_hf.data.pictures import PictureFolder

CHUNK = 8  # images that a process takes at a time


def cut_all(
    shards: Shards,
    plan: Plan,
    options: CropOptions,
    *,
    workers: int,
    on_bad: str,
    engine: str = "processes",
) -> None:
    """Cut the jobs that are not done yet.

    Args:
        shards: the data set that the crops are added to.
        plan: the jobs.
        options: how a box becomes a crop.
        workers: number of worker processes; 0 cuts in this process.
        on_bad: ``raise``, ``skip`` or ``replace``; see ``make_crops``.
        engine: ``processes`` or ``ray``; see ``make_crops``.

    Raises:
        InputError: for a bad image if ``on_bad`` is ``raise``, or if a worker was killed.
        ResourceError: if a cluster does not answer, or is lost.
    """
    stand_ins = StandIns(plan, options) if on_bad == "replace" else None
    bar = Progress("cutting", len(plan), "images", done=shards.done)
    crops = sum(part.crops for part in shards.parts)
    index = shards.done
    jobs = plan.jobs(index, options.max_pixels)
    by_path = isinstance(plan.folder, PictureFolder)  # else a job holds its image, decoded
    chunk = CHUNK if by_path else 1
    side_by_side = MAKERS[engine](workers) if workers or engine != "processes" else None
    with bar:
        for job, result in _in_order(jobs, options, side_by_side, chunk):
            if result.bad and on_bad == "raise":
                where = f"{plan.found.where(int(job.box[0]))}: " if len(job.box) else ""
                raise InputError(f"{where}image {job.name}: {result.bad} (--on-bad-image {GO_ON})")
            if result.bad and stand_ins is not None:
                stand_ins.replace(job, result)
            crops += len(result.crops)
            shards.add(index, job, result)
            index += 1
            bar.update(1, f"{crops:,} crops")
        shards.flush()
    if not isinstance(plan.folder, PictureFolder):
        plan.folder.close()


def _in_order(
    jobs: Iterator[Job], options: CropOptions, engine: Engine | None, size: int
) -> Iterator[tuple[Job, Cut]]:
    """Yield each job and its result; only a few are queued at a time, to bound memory."""
    if engine is None:
        yield from ((job, cut(job, options)) for job in jobs)
        return
    waiting: deque[tuple[list[Job], Result]] = deque()
    try:
        while True:
            while len(waiting) < 3 * engine.width and (chunk := list(islice(jobs, size))):
                waiting.append((chunk, engine.submit(chunk, options)))
            if not waiting:
                break
            chunk, result = waiting.popleft()
            yield from zip(chunk, result(), strict=True)
    finally:
        engine.close()

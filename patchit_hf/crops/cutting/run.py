"""Cut a plan's jobs in order, in one or more processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from patchit_hf.common.errors import InputError
from patchit_hf.common.progress import Progress
from patchit_hf.crops.cutting.cut import Cut, Job, cut
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.plan import Plan
from patchit_hf.crops.cutting.shards import Shards
from patchit_hf.crops.cutting.stand_ins import GO_ON, StandIns
from patchit_hf.data.pictures import PictureFolder

CHUNK = 8  # images that a process takes at a time


def cut_all(shards: Shards, plan: Plan, options: CropOptions, *, workers: int, on_bad: str) -> None:
    """Cut the jobs that are not done yet.

    Args:
        shards: the data set that the crops are added to.
        plan: the jobs.
        options: how a box becomes a crop.
        workers: number of worker processes; 0 cuts in this process.
        on_bad: ``raise``, ``skip`` or ``replace``; see ``make_crops``.

    Raises:
        InputError: for a bad image if ``on_bad`` is ``raise``, or if a worker was killed.
    """
    stand_ins = StandIns(plan, options) if on_bad == "replace" else None
    bar = Progress("cutting", len(plan), "images", done=shards.done)
    crops = sum(part.crops for part in shards.parts)
    index = shards.done
    jobs = plan.jobs(index, options.max_pixels)
    by_path = isinstance(plan.folder, PictureFolder)  # else a job holds its image, decoded
    chunk = CHUNK if by_path else 1
    with bar:
        for job, result in _in_order(jobs, options, workers, chunk):
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
    jobs: Iterator[Job], options: CropOptions, workers: int, size: int
) -> Iterator[tuple[Job, Cut]]:
    """Yield each job and its result; only a few are queued at a time, to bound memory."""
    if workers < 1:
        yield from ((job, cut(job, options)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_prepare)
    waiting: deque[tuple[list[Job], Future[list[Cut]]]] = deque()
    try:
        while True:
            while len(waiting) < 3 * workers and (chunk := list(islice(jobs, size))):
                waiting.append((chunk, pool.submit(_cut_chunk, chunk, options)))
            if not waiting:
                break
            chunk, future = waiting.popleft()
            yield from zip(chunk, future.result(), strict=True)
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, perhaps because memory ran out; repeat the command with "
            "fewer --workers or a smaller --max-pixels to continue"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _cut_chunk(jobs: list[Job], options: CropOptions) -> list[Cut]:
    return [cut(job, options) for job in jobs]


def _prepare() -> None:
    """Ignore Ctrl-C, which the main process handles, and exit when that process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

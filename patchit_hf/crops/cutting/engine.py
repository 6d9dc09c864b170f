"""Who cuts: worker processes of this machine, or the machines of a Ray cluster.

An engine takes chunks of jobs and hands out their results. The plan, the order and the files are
those of the main process, so that all engines give the same data set, bit for bit.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from patchit_hf.common.errors import InputError
from patchit_hf.common.resources import ResourceError
from patchit_hf.crops.choices import ENGINES
from patchit_hf.crops.cutting.cut import Cut, Job, cut
from patchit_hf.crops.cutting.options import CropOptions

Result = Callable[[], list[Cut]]  # waits for the crops of a chunk


class Engine(Protocol):
    """Cuts chunks of jobs side by side.

    Attributes:
        width: chunks that are cut at a time.
    """

    width: int

    def submit(self, jobs: list[Job], options: CropOptions) -> Result:
        """Begin to cut, and return how to wait for the result."""

    def close(self) -> None:
        """Drop what is not cut yet."""


class Processes:
    """Worker processes of this machine.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self.width = workers
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, context, initializer=_prepare)

    def submit(self, jobs: list[Job], options: CropOptions) -> Result:
        """Begin to cut.

        Raises:
            InputError: by the result, if a worker was killed.
        """
        future = self._pool.submit(cut_chunk, jobs, options)

        def result() -> list[Cut]:
            try:
                return future.result()
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process was killed, perhaps because memory ran out; repeat the "
                    "command with fewer --workers or a smaller --max-pixels to continue"
                ) from error

        return result

    def close(self) -> None:
        """Drop what is not cut yet."""
        self._pool.shutdown(cancel_futures=True)


class Ray:
    """A Ray cluster: that of ``RAY_ADDRESS``, or one on this machine that ends with the command.

    Every machine has to find the images under the same path, and needs this package.

    Args:
        workers: chunks that are cut at a time; 0 for as many as the cluster has cores.

    Raises:
        InputError: if Ray is not installed.
        ResourceError: if no cluster answers.
    """

    def __init__(self, workers: int) -> None:
        self._ray = ray = _import_ray()
        self._started = not ray.is_initialized()
        if self._started:
            address = os.environ.get("RAY_ADDRESS")
            try:
                ray.init(
                    num_cpus=None if address else workers or None,
                    include_dashboard=None if address else False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
            except (ConnectionError, RuntimeError) as error:
                where = f"RAY_ADDRESS {address!r}" if address else "--engine ray"
                raise ResourceError(f"{where}: no Ray cluster answers: {error}") from error
        self.width = workers or int(ray.cluster_resources().get("CPU", 1))
        self._cut = ray.remote(cut_chunk)

    def submit(self, jobs: list[Job], options: CropOptions) -> Result:
        """Begin to cut.

        Raises:
            ResourceError: by the result, if machines were lost and Ray gave up.
        """
        ray, reference = self._ray, self._cut.remote(jobs, options)

        def result() -> list[Cut]:
            try:
                found: list[Cut] = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from error
            except ray.exceptions.RayError as error:
                raise ResourceError(
                    f"the Ray cluster lost a chunk: {type(error).__name__}; repeat the command to "
                    "continue"
                ) from error
            return found

        return result

    def close(self) -> None:
        """Drop what is not cut yet; a cluster that was there before stays."""
        if self._started:
            self._ray.shutdown()


MAKERS: dict[str, Callable[[int], Engine]] = dict(zip(ENGINES, (Processes, Ray), strict=True))


def cut_chunk(jobs: list[Job], options: CropOptions) -> list[Cut]:
    """Cut all jobs of a chunk."""
    return [cut(job, options) for job in jobs]


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise InputError(
            "--engine ray: Ray is not installed; pip install 'patchit_hf[ray]'"
        ) from None
    return ray


def _prepare() -> None:
    """Ignore Ctrl-C, which the main process handles, and exit when that process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

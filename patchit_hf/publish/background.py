"""Push checkpoints in a background thread while training continues."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from patchit_hf.common.errors import one_line
from patchit_hf.publish.contents import contents_of, drop_snapshots, take_snapshot
from patchit_hf.publish.failures import Retry
from patchit_hf.publish.upload import NotPushedError, Target, upload

logger = logging.getLogger(__name__)


@dataclass
class _Job:
    step: int
    folder: Path
    snapshot: Path
    abandoned: bool = False
    pushed: bool = False

    def drop(self) -> None:
        self.abandoned = True
        shutil.rmtree(self.snapshot, ignore_errors=True)


class BackgroundPush:
    """Uploads the newest checkpoint while training continues.

    A submission only costs a few hard links. Uploads run one after the other; while one runs, only
    the newest of the later submissions waits. Failures raise nothing. Each kind of failure gives
    one warning, until an upload succeeds again.

    Args:
        repo_id: ``org/name``; created if missing.
        private: create it as private, and refuse to push to a public one.
        revision: branch, created if missing; the main one by default.
        retry: how often and how long to try with one checkpoint.
        api: the client to use.

    Attributes:
        pushed: the last step that is on the Hub.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        private: bool = False,
        revision: str | None = None,
        retry: Retry | None = None,
        api: HfApi | None = None,
    ) -> None:
        self.target = Target(repo_id, private, revision)
        self.retry, self.api = retry or Retry(), api
        self.pushed: int | None = None
        self._change = threading.Condition()
        self._running: _Job | None = None
        self._waiting: _Job | None = None
        self._newest: _Job | None = None
        self._said: set[str] = set()
        self._cleaned: set[Path] = set()

    def submit(self, folder: str | Path, step: int) -> None:
        """Submit a run's newest checkpoint, and return at once.

        Args:
            folder: the run's folder.
            step: number of steps done.
        """
        folder = Path(folder)
        if folder not in self._cleaned:
            drop_snapshots(folder)
            self._cleaned.add(folder)
        try:
            job = _Job(step, folder, take_snapshot(folder))
        except (OSError, ValueError) as error:
            self._say("disk", f"checkpoint {step} is not pushed: {one_line(error)}")
            return
        with self._change:
            if self._waiting is not None:
                self._waiting.drop()
            self._waiting = self._newest = job
            self._change.notify_all()
            if self._running is None:
                self._running, self._waiting = job, None
                threading.Thread(target=self._work, name="hub-push", daemon=True).start()

    def finish(self, timeout: float = 60.0, *, superseded: bool = False) -> bool:
        """Wait until the submitted checkpoints are on the Hub; give up after the timeout.

        Args:
            timeout: seconds to wait.
            superseded: whether the caller is about to push something newer. A checkpoint that still
                waits is then dropped, and giving up an upload gives no warning.

        Returns:
            Whether the newest submission is on the Hub.
        """
        with self._change:
            if superseded and self._waiting is not None:
                self._waiting.drop()
                self._waiting = None
            self._change.wait_for(lambda: self._running is None, timeout)
            left = [job for job in (self._running, self._waiting) if job]
            self._waiting = None
            for job in left:
                job.drop()
            self._change.notify_all()
        if left and not superseded:
            folder = left[-1].folder
            logger.warning(
                "checkpoint %d is not on the Hub yet: the upload was given up after %.0f s. It "
                "is safe in %r; push it later with: %s",
                left[-1].step, timeout, str(folder), self.target.command(folder),
            )  # fmt: skip
        return self._newest is None or self._newest.pushed

    def _work(self) -> None:
        job = self._running
        while job is not None:
            try:
                with _no_progress_bars():
                    self._push(job)
            except Exception as error:  # a push must not end the training
                logger.debug("the background push failed", exc_info=True)
                if not job.abandoned:
                    words = f"{type(error).__name__}: {one_line(error)}"
                    self._say(words, f"checkpoint {job.step} is not pushed: {words}")
            job.drop()
            with self._change:
                job = self._running = self._waiting
                self._waiting = None
                self._change.notify_all()

    def _push(self, job: _Job) -> None:
        try:
            upload(
                contents_of(job.snapshot),
                self.target,
                job.folder,
                retry=self.retry,
                api=self.api,
                pause=lambda seconds: self._pause(job, seconds),
            )
        except NotPushedError as error:
            if not job.abandoned:
                self._say(error.failure.kind, f"{error} (training continues)")
            return
        if self._said:
            logger.info("the Hub has checkpoint %d; pushing works again", job.step)
        self.pushed, job.pushed = job.step, True
        self._said.clear()

    def _pause(self, job: _Job, seconds: float) -> bool:
        """Wait between two attempts, but stop if the checkpoint is no longer wanted."""
        with self._change:
            done = self._change.wait_for(lambda: job.abandoned or self._waiting, seconds)
        return not done

    def _say(self, kind: str, line: str) -> None:
        level = logging.DEBUG if kind in self._said else logging.WARNING
        self._said.add(kind)
        logger.log(level, "%s", line)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Hide the client's progress bars, which would disturb the training's own."""
    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()

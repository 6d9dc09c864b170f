"""A run and the Hub: push checkpoints during training, and fetch one to continue from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator

from patchit_hf.common.console import say
from patchit_hf.common.errors import InputError
from patchit_hf.common.layout import METRICS_FILE
from patchit_hf.training.arguments import LoopArguments
from patchit_hf.training.checkpoint import STATE_FILE, Checkpoint, read_checkpoint
from patchit_hf.training.run_folder import RunFolder
from patchit_hf.training.trainer import Trainer

if TYPE_CHECKING:
    from patchit_hf.publish.background import BackgroundPush

PREFIX = "hub:"  # marks a checkpoint on the Hub


class RunHub:
    """Pushes a run to the repository in its arguments, from the main process.

    Args:
        args: with repository and branch.
        folder: the run's folder.
        main: whether this is the main process; the others do nothing.
        include_people: whether the figures that show single people are uploaded.
    """

    def __init__(
        self, args: LoopArguments, folder: Path, main: bool, *, include_people: bool = False
    ) -> None:
        self.args, self.folder, self.main = args, folder, main
        self.include_people = include_people
        self.background: BackgroundPush | None = None

    def start(self) -> None:
        """Prepare for pushing checkpoints, if the arguments ask for it."""
        if self.main and self.args.push_to_hub and self.args.hub_model_id:
            from patchit_hf.publish.background import BackgroundPush

            self.background = BackgroundPush(
                self.args.hub_model_id,
                private=self.args.hub_private_repo,
                revision=self.args.hub_revision,
            )

    def submit(self, step: int) -> None:
        """Submit the newest checkpoint; this only costs a few hard links."""
        if self.background is not None:
            self.background.submit(self.folder, step)

    def finish(self, timeout: float = 60.0) -> None:
        """Wait up to ``timeout`` seconds for the running upload; drop any that waits."""
        if self.background is not None:
            self.background.finish(timeout, superseded=True)

    def push(self, repo_id: str | None = None, **kwargs: Any) -> str | None:
        """Upload the export in one commit and return its URL, on the main process.

        Args:
            repo_id: ``org/name``; ``args.hub_model_id`` by default.
            **kwargs: see ``patchit_hf.publish.upload.push_folder``.

        Raises:
            InputError: if no repository is named, nothing is exported, or the Hub rejects the push.
        """
        from patchit_hf.publish.upload import push_folder

        repo_id = repo_id or self.args.hub_model_id
        if not repo_id:
            raise InputError("push_to_hub needs a repository: --hub-model-id, such as org/name")
        if not self.main:
            return None
        options = {
            "private": self.args.hub_private_repo,
            "revision": self.args.hub_revision,
            "include_people": self.include_people,
        }
        return push_folder(self.folder, repo_id, **{**options, **kwargs})


class HubTrainer(Trainer):
    """A trainer whose checkpoints and export are pushed, if its arguments ask for it.

    Args:
        args: how to train, and where to push.
        run: the run's folder.
        data_info: what the records say about the data.
        include_people: whether the figures that show single people are uploaded.
        callbacks: see ``Trainer``.
    """

    def __init__(
        self,
        args: LoopArguments,
        run: RunFolder,
        data_info: dict[str, Any],
        *,
        include_people: bool = False,
        callbacks: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(args, run, data_info, callbacks)
        self.hub = RunHub(args, run.path, self.is_main, include_people=include_people)

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> dict[str, Any]:
        """Train to the end, from the newest checkpoint if there is one; export, and push if asked.

        Args:
            resume_from_checkpoint: see ``Trainer.train``.

        Returns:
            The results, as in ``patchit.json``.

        Raises:
            FloatingPointError: if the loss stops being finite; what was saved before stays.
            InputError: if the Hub rejects the push; the export stays.
        """
        results = super().train(resume_from_checkpoint)
        self.hub.finish()
        if self.args.push_to_hub:
            self.push_to_hub()
        return results

    def push_to_hub(self, repo_id: str | None = None, **kwargs: Any) -> str | None:
        """Upload the run's export to the Hub in one commit.

        Args:
            repo_id: ``org/name``; ``args.hub_model_id`` by default.
            **kwargs: see ``patchit_hf.publish.upload.push_folder``.

        Returns:
            The commit's URL, on the main process.

        Raises:
            InputError: if no repository is named, nothing is exported, or the Hub rejects the push.
        """
        return self.hub.push(repo_id, **kwargs)

    def _begin(self, start: int) -> None:
        self.hub.start()

    def _after_save(self, done: int) -> None:
        self.hub.submit(done)

    def _abort(self) -> None:
        self.hub.finish(0)


def push_finished(args: LoopArguments, folder: Path, *, include_people: bool = False) -> None:
    """Push a finished run, because its push may have failed; if it did not, nothing is sent."""
    hub = RunHub(args, folder, main=True, include_people=include_people)
    say(f"pushed: {hub.push()}")


def named_checkpoint(chosen: str | None, accelerator: Accelerator) -> Checkpoint | None:
    """Read the checkpoint that ``--resume`` names, downloaded if it is on the Hub.

    Args:
        chosen: a folder, ``hub:org/name@revision``, or None.
        accelerator: the processes that read it.

    Raises:
        InputError: if the Hub has no such checkpoint or cannot be reached.
    """
    if not chosen:
        return None
    folder = Path(chosen)
    if chosen.startswith(PREFIX):
        from patchit_hf.publish.fetch import fetch_checkpoint

        with accelerator.local_main_process_first():
            folder = fetch_checkpoint(chosen)
    if not (folder / STATE_FILE).is_file():
        raise InputError(f"--resume {chosen!r}: not a checkpoint (it has no {STATE_FILE})")
    return read_checkpoint(folder)


def adopt_history(checkpoint: Path, folder: Path) -> None:
    """Copy the metrics that belong to a checkpoint into a run's folder that has none."""
    there, here = checkpoint.parent.parent / METRICS_FILE, folder / METRICS_FILE
    if there.exists() and not here.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(there, here)

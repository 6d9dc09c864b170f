"""How a run continues: the checkpoint it is read from, and what may differ from it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from patchit_hf.common.errors import InputError
from patchit_hf.common.layout import CHECKPOINTS, DONE_FILE
from patchit_hf.data.contents import Contents, read_contents, write_contents
from patchit_hf.training.arguments import LENGTH
from patchit_hf.training.checkpoint import Checkpoint, checkpoints, newest_whole, restore
from patchit_hf.training.memory import FitsMemory
from patchit_hf.training.monitor import Monitor
from patchit_hf.training.sharded import Sharded

logger = logging.getLogger(__name__)

DATA_FILE = ".data.npz"  # beside the checkpoints: a hash per image of the data


class Resumes(FitsMemory):
    """The part of a trainer that continues a run."""

    notes: dict[str, Any]
    opened: dict[str, Contents]
    contents: dict[str, str]
    optimizer: Any
    monitor: Monitor | None
    sharded: Sharded | None
    max_steps: int
    rank: int
    world: int

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks."""
        return bool(self.rank == 0)

    def _checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint to resume from: the newest whole one of the run's folder."""
        return newest_whole(self.run.path / CHECKPOINTS, say=self.is_main)

    def _resume(self) -> int:
        """Read the newest checkpoint and return how many steps are done."""
        self._see_data()
        found = self._checkpoint()
        other_data = self._compare_data(found)
        if found is None:
            self._refuse_anew()
            return 0
        config, change = self._config_with_data(found), self.args.change
        if other_data:
            config["data_contents"] = found.config["data_contents"]
        scaler = self.accelerator.scaler
        changed = restore(found, config, self.model, self.sharded or self.optimizer, scaler, change)
        changed |= other_data
        if found.step >= self.max_steps and {*changed} & {*LENGTH}:
            raise InputError(
                f"--extend: {found.step} steps are done; must be more, and the run has "
                f"{self.max_steps}"
            )
        self.notes = found.notes
        if self.args.extend:  # beyond what a callback asked for
            self.notes.pop("asked_to_stop", None)
        self._say_parts()
        if changed:
            entry = {"after_step": found.step, "values": changed}
            self.notes["changes"] = [*self.notes.get("changes", []), entry]
        if self.is_main:
            self._resumed(found.folder)
            for name, (before, after) in changed.items():
                logger.info("after step %d: %s %s, not %s", found.step, name, after, before)
            logger.info(
                "continuing after step %d of %d from %s", found.step, self.max_steps, found.folder
            )
        return found.step

    def _refuse_anew(self) -> None:
        """Check that a finished run, which is to be extended, is not begun anew.

        Raises:
            InputError: if there is no checkpoint to go on from.
        """
        if self.args.extend and (self.run.path / DONE_FILE).exists():
            raise InputError(
                f"--extend: {str(self.run.path)!r} holds no checkpoint to go on from (--save-every "
                "0, or they were deleted)"
            )

    def _see_data(self) -> None:
        """Find out what the data hold, on the main process; the others get the fingerprints."""
        payload: list[Any] = [None]
        if self.is_main:
            self.opened = self.data.contents()
            payload = [{part: found.fingerprint for part, found in self.opened.items()}]
        self.contents = broadcast_object_list(payload)[0]

    def _compare_data(self, found: Checkpoint | None) -> dict[str, list[Any]]:
        """Compare the data with those of a checkpoint.

        Returns:
            The fingerprints of the parts that changed, before and after, by name.

        Raises:
            InputError: if they changed, and that is not allowed.
        """
        payload: list[Any] = [None]
        if self.is_main:
            payload = [self._say_what_changed(found, self.contents)]
        told = broadcast_object_list(payload)[0]
        if told and found is not None:
            if not self.args.allow_changed_data:
                raise InputError(
                    f"{str(found.folder)!r}: the data changed since this checkpoint: "
                    f"{'; '.join(told)}. Put them back, or add --allow-changed-data to continue "
                    "with what is there now"
                )
            there = found.config["data_contents"]
            return {
                f"contents of {part}": [there.get(part), self.contents.get(part)]
                for part in sorted({*there, *self.contents})
                if there.get(part) != self.contents.get(part)
            }
        return {}

    def _say_what_changed(self, found: Checkpoint | None, here: dict[str, str]) -> list[str]:
        """Return a clause for each part of the data that is not what it was."""
        there = None if found is None else found.config.get("data_contents")
        if not isinstance(there, dict) or there == here:
            return []
        before, told = read_contents(self.run.path / CHECKPOINTS / DATA_FILE), []
        for part in sorted({*there, *here}):
            if there.get(part) == here.get(part):
                continue
            what = "it is not there any more" if part not in here else "it is new"
            if part in here and part in there:
                known = before.get(part)
                same = known is not None and known.fingerprint == there[part]
                what = self.opened[part].changes_since(known) if known and same else "other images"
            told.append(f"{part}: {what}")
        return told

    def _write_contents(self) -> None:
        """Write what the data hold beside the checkpoints, so that a later start can say more."""
        file = self.run.path / CHECKPOINTS / DATA_FILE
        if (
            self.opened
            and {part: contents.fingerprint for part, contents in read_contents(file).items()}
            != self.contents
        ):
            write_contents(file, self.opened)
        self.opened = {}

    def _config_with_data(self, found: Checkpoint | None = None) -> dict[str, Any]:
        """Return what decides the trained weights, including the data.

        Args:
            found: a checkpoint; its name for the data is taken where it means the same crops.
        """
        if found is None or "data_contents" in found.config:
            return dict(json.loads(json.dumps({**self.run.config, "data_contents": self.contents})))
        # What runs had that were begun before there was that.
        fingerprint = self.data.described()["fingerprint"]
        if found is not None:
            there = found.config.get("data_fingerprint")
            names = {fingerprint, *self.data.known_as}
            if names & {there, *found.notes.get("data_known_as", [])}:
                fingerprint = there
        return dict(json.loads(json.dumps({**self.run.config, "data_fingerprint": fingerprint})))

    def _noted(self) -> dict[str, Any]:
        """Return what a checkpoint says beside the notes that are carried along."""
        parts = self.share.accumulation * self.world
        asked = self.monitor.asked if self.monitor else None
        stopped = {"asked_to_stop": asked} if asked else {}
        return {"data_known_as": list(self.data.known_as), "parts": parts, **stopped}

    def _say_parts(self) -> None:
        """Say so where batch normalisation sees another number of inputs from now on."""
        before, parts = self.notes.get("parts"), self.share.accumulation * self.world
        normalises = any(name.endswith("running_mean") for name, _ in self.model.named_buffers())
        if self.is_main and before not in (None, parts) and normalises:
            logger.info(
                "each batch is in %d parts now, in %d before: batch normalisation sees one part at "
                "a time, so the weights will differ",
                parts,
                before,
            )

    def _check_resume(self, wanted: bool | str | Path | None) -> None:
        """Check that there is a checkpoint where one is asked for, and none where none is.

        Raises:
            InputError: otherwise.
        """
        folder = self.run.path / CHECKPOINTS
        if isinstance(wanted, str | Path):
            self._continue_from(str(wanted))
        elif wanted is True and not checkpoints(folder):
            raise InputError(f"resume_from_checkpoint=True: there is none in {str(folder)!r}")
        elif wanted is False and checkpoints(folder):
            raise InputError(
                f"resume_from_checkpoint=False: {str(self.run.path)!r} holds a run with "
                "checkpoints; give another output_dir, or delete it"
            )

    def _continue_from(self, checkpoint: str) -> None:
        """Take a checkpoint of another folder as the one to go on from.

        Raises:
            InputError: where that is not offered.
        """
        raise InputError(
            f"resume_from_checkpoint={checkpoint!r}: finetuning goes on in its own output_dir only"
        )

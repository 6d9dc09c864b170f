"""The folder of a run, and the configuration that identifies the run."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from patchit_hf.common.config import write_args
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json, write_json
from patchit_hf.common.layout import CHECKPOINTS, DONE_FILE, RUN_FILE
from patchit_hf.common.lock import FolderLock, check_free

logger = logging.getLogger(__name__)

# Drafts that a killed process leaves behind.
LEFTOVERS = (".draft-*", ".export-*", ".*.tmp", f"{CHECKPOINTS}/.*.tmp")


class RunFolder:
    """The output folder of one run.

    Args:
        path: the folder.
        config: what decides the trained weights, as JSON values.
        arguments: all arguments by flag, for ``args.yaml``; see ``common.arguments.stated``.
        prog: the command that takes them back.

    Raises:
        InputError: if the folder holds anything but a run with this configuration.
    """

    def __init__(
        self,
        path: str | Path,
        config: dict[str, Any],
        arguments: dict[str, Any] | None = None,
        prog: str = "",
    ) -> None:
        self.path = Path(path)
        self.arguments, self.prog = arguments, prog
        self.config = json.loads(json.dumps(config))
        self._lock: FolderLock | None = None
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--output-dir {str(path)!r}: is a file")
        if os.environ.get("RANK", "0") == "0":  # only the main process writes
            check_free(self.path, f"--output-dir {str(path)!r}")
        if self.record.exists():
            there = read_json(self.record)["config"]
            refuse_other(f"--output-dir {str(path)!r} holds another run", there, self.config)
        elif self.path.exists() and any(not p.name.startswith(".") for p in self.path.iterdir()):
            raise InputError(
                f"--output-dir {str(path)!r}: has files, but not of a run; choose a new folder"
            )

    @property
    def record(self) -> Path:
        """The file that identifies the run."""
        return self.path / RUN_FILE

    @property
    def finished(self) -> bool:
        """Whether the run is finished and exported; a damaged record counts as neither."""
        try:
            return bool(read_json(self.path / DONE_FILE))
        except (InputError, OSError):
            return False

    def release(self) -> None:
        """Let others write to the folder; otherwise that happens when the object is deleted."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def start(self) -> None:
        """Create the folder, lock it, and write which run it holds.

        Raises:
            InputError: if another process is writing to it, or has started another run in it
                meanwhile.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        name = f"--output-dir {str(self.path)!r}"
        self._lock = self._lock or FolderLock(self.path, name)
        if self.record.exists():
            refuse_other(f"{name} holds another run", read_json(self.record)["config"], self.config)
        else:
            write_json(self.record, {"config": self.config})
        if self.arguments is not None:
            write_args(self.path, self.arguments, self.prog)
        for pattern in LEFTOVERS:  # this process holds the lock: nobody else writes them
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class History:
    """The run's evaluations: one JSON line each in ``metrics.jsonl``.

    Args:
        file: the file.
        writes: whether this process writes the file.
        step: the step that training continues from; later lines are removed.
    """

    def __init__(self, file: Path, writes: bool, step: int) -> None:
        self.file, self.writes = file, writes
        lines = file.read_bytes().splitlines() if file.exists() else []
        entries = [_entry(line) for line in lines]
        if writes and None in entries[:-1]:  # the last may be half written when a run is killed
            logger.warning("%s: %d damaged lines are left out", file, entries[:-1].count(None))
        self.entries = [entry for entry in entries if entry is not None and entry["step"] <= step]
        if writes:
            text = "".join(json.dumps(entry) + "\n" for entry in self.entries)
            file.write_text(text, encoding="utf-8")

    @property
    def last(self) -> dict[str, Any]:
        """The newest evaluation; empty before the first one."""
        return self.entries[-1] if self.entries else {}

    def add(self, entry: dict[str, Any]) -> None:
        """Append an evaluation."""
        self.entries.append(entry)
        if self.writes:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return an evaluation with the keys of today, None for a damaged line.

    Earlier finetunings wrote ``loss`` for ``train_loss``.
    """
    try:
        entry = json.loads(line)
        if not isinstance(entry["step"], int):
            return None
    except (ValueError, KeyError, TypeError):
        return None
    return {"train_loss" if key == "loss" else key: value for key, value in entry.items()}


def refuse_other(what: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Check that two configurations are the same.

    Raises:
        InputError: if they differ; the message names every field that does.

    Example:
        >>> refuse_other("holds another run", {"seed": 1}, {"seed": 2})
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: holds another run; these differ: seed (1 there, 2 here)
    """
    differing = [
        f"{name} ({there.get(name)!r} there, {here.get(name)!r} here)"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise InputError(f"{what}; these differ: {', '.join(differing)}")

"""The folder of a run, and the configuration that identifies the run."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchit_hf.common.config import write_args
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import append_line, read_json, write_json, write_text
from patchit_hf.common.layout import CHECKPOINTS, DONE_FILE, RUN_FILE
from patchit_hf.common.lock import FolderLock, check_free
from patchit_hf.common.resources import GONE, ResourceError, check_writable, writing
from patchit_hf.common.shown import redact
from patchit_hf.training.arguments import CHANGEABLE, LENGTH

logger = logging.getLogger(__name__)

# Drafts that a killed process leaves behind.
LEFTOVERS = (".draft-*", ".export-*", ".*.tmp", f"{CHECKPOINTS}/.*.tmp")
# Values that earlier versions counted as part of a run's identity.
PATHS = ("dataset", "init")  # values that may be paths
NO_IDENTITY = ("gradient_accumulation_steps",)


class RunFolder:
    """The output folder of one run.

    Args:
        path: the folder.
        config: what decides the trained weights, as JSON values.
        arguments: all arguments by flag, for ``args.yaml``; see ``common.arguments.stated``.
        prog: the command that takes them back.
        change: names of values that may differ from those of the run that is there.

    Raises:
        InputError: if the folder holds anything but a run with this configuration.
        ResourceError: if it may not be written.
    """

    def __init__(
        self,
        path: str | Path,
        config: dict[str, Any],
        arguments: dict[str, Any] | None = None,
        prog: str = "",
        change: Sequence[str] = (),
    ) -> None:
        self.path, self.change = Path(path), tuple(change)
        self.arguments, self.prog = arguments, prog
        self.config = json.loads(redact(json.dumps(config)))
        self._lock: FolderLock | None = None
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--output-dir {str(path)!r}: is a file")
        self._identity: tuple[int, int] | None = None
        if os.environ.get("RANK", "0") == "0":  # only the main process writes
            check_writable(self.path)
            check_free(self.path, f"--output-dir {str(path)!r}")
        if self.record.exists():
            self._refuse_other(f"--output-dir {str(path)!r} holds another run")
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
        """Whether the run is finished and exported; a damaged record counts as neither.

        A run that is to be longer now is not.
        """
        done = finished_record(self.path)
        there = done.get("config", {})
        known = [name for name in LENGTH if name in there and name in self.config]
        return bool(done) and all(there[name] == self.config[name] for name in known)

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
        name = f"--output-dir {str(self.path)!r}"
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock or FolderLock(self.path, name)
        self._identity = _identity(self.path)
        if self.record.exists():
            known = self._refuse_other(f"{name} holds another run")
            if known["config"] != self.config:
                write_json(self.record, {**known, "config": self.config})
        else:
            write_json(self.record, {"config": self.config})
        if self.arguments is not None:
            write_args(self.path, self.arguments, self.prog)
        for pattern in LEFTOVERS:  # this process holds the lock: nobody else writes them
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def parts(self) -> int | None:
        """The number of parts of the batch that an earlier start found to fit into memory."""
        known = read_json(self.record).get("parts") if self.record.exists() else None
        return known if isinstance(known, int) and known > 0 else None

    def keep_parts(self, parts: int) -> None:
        """Write down the number of parts of the batch, for later starts."""
        write_json(self.record, {**read_json(self.record), "parts": parts})

    def _refuse_other(self, what: str) -> dict[str, Any]:
        known = read_json(self.record)
        if not isinstance(known.get("config"), dict):
            raise InputError(f"{self.record}: damaged file: it has no 'config'")
        refuse_other(what, known["config"], self.config, self.change)
        return known

    def check_there(self) -> None:
        """Check that the folder is still the one that this process writes to.

        Raises:
            ResourceError: if it was deleted or replaced.
        """
        if self._identity is not None and _identity(self.path) != self._identity:
            raise ResourceError(f"--output-dir {str(self.path)!r}: {GONE}; nothing more is written")


def finished_record(folder: Path) -> dict[str, Any]:
    """Return the record of a finished run; empty for none, or a damaged one."""
    try:
        return read_json(folder / DONE_FILE)
    except (InputError, OSError):
        return {}


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


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
            count = entries[:-1].count(None)
            verb = "line is" if count == 1 else "lines are"
            logger.warning("%s: %d damaged %s left out", file, count, verb)
        self.entries = [entry for entry in entries if entry is not None and entry["step"] <= step]
        if writes:
            write_text(file, "".join(json.dumps(entry) + "\n" for entry in self.entries))

    @property
    def last(self) -> dict[str, Any]:
        """The newest evaluation; empty before the first one."""
        return self.entries[-1] if self.entries else {}

    def add(self, entry: dict[str, Any]) -> None:
        """Append an evaluation: the whole line or nothing.

        Raises:
            ResourceError: if the disk is full.
        """
        self.entries.append(entry)
        if self.writes:
            append_line(self.file, json.dumps(entry))


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return an evaluation with the keys of today, None for a damaged line.

    Earlier finetunings wrote ``loss`` for ``train_loss``.
    """
    try:
        entry = json.loads(line)
        if not isinstance(entry["step"], int):
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return {"train_loss" if key == "loss" else key: value for key, value in entry.items()}


def _is_same_path(there: Any, here: Any) -> bool:
    """Whether two spellings name the same folder or file, as with a slash at the end."""
    if not (isinstance(there, str) and isinstance(here, str)):
        return False
    a, b = (Path(text).expanduser() for text in (there, here))
    return b.exists() and a.resolve() == b.resolve()


def refuse_other(
    what: str, there: dict[str, Any], here: dict[str, Any], change: Sequence[str] = ()
) -> dict[str, list[Any]]:
    """Check that two configurations are the same, but for what may change.

    Args:
        what: the beginning of the message.
        there: the configuration that was written.
        here: the configuration of this start.
        change: names of values that may differ.

    Returns:
        The values that changed, before and after, by name.

    Raises:
        InputError: if others differ; the message names every field that does.

    Example:
        >>> refuse_other("holds another run", {"seed": 1}, {"seed": 2})
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: holds another run; these differ: seed (1 there, 2 here)
    """
    changed = {
        name: [there.get(name), here.get(name)]
        for name in sorted({*there, *here} - {*NO_IDENTITY})
        if there.get(name) != here.get(name)
        and not (name in PATHS and _is_same_path(there.get(name), here.get(name)))
    }
    other = {name: pair for name, pair in changed.items() if name not in change}
    if other:
        differing = ", ".join(f"{name} ({a!r} there, {b!r} here)" for name, (a, b) in other.items())
        hint = ""
        if other.keys() <= {*LENGTH}:
            hint = "; to train longer, add --extend"
        elif other.keys() <= {*CHANGEABLE}:
            hint = f"; to continue with other values, add --change {' '.join(other)}"
        raise InputError(f"{what}; these differ: {differing}{hint}")
    return changed

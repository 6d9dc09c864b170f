"""The folder that a run lives in, and what makes it that run and no other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json, write_json
from patchit_hf.common.layout import CHECKPOINTS, DONE_FILE, RUN_FILE
from patchit_hf.common.lock import FolderLock, check_free

if TYPE_CHECKING:
    pass


class RunFolder:
    """The output folder of one run.

    Args:
        path: the folder.
        config: what decides the trained weights, as JSON values.

    Raises:
        InputError: if the folder holds something else than a run of this configuration.
    """

    def __init__(self, path: str | Path, config: dict[str, Any]) -> None:
        self.path = Path(path)
        self.config = json.loads(json.dumps(config))
        self._lock: FolderLock | None = None
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--output-dir {str(path)!r}: is a file")
        if os.environ.get("RANK", "0") == "0":  # the one that writes
            check_free(self.path, f"--output-dir {str(path)!r}")
        if self.record.exists():
            there = read_json(self.record)["config"]
            refuse_other(f"--output-dir {str(path)!r} holds another run", there, self.config)
        elif self.path.exists() and any(not p.name.startswith(".") for p in self.path.iterdir()):
            raise InputError(
                f"--output-dir {str(path)!r}: holds files but no run of ours; choose a new folder"
            )

    @property
    def record(self) -> Path:
        """The file that says which run this is."""
        return self.path / RUN_FILE

    @property
    def finished(self) -> bool:
        """Whether the run has exported its result."""
        return (self.path / DONE_FILE).exists()

    def release(self) -> None:
        """Let others write into the folder; else that happens when the object is given up."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def newest_checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint."""
        found = sorted((self.path / CHECKPOINTS).glob("step-*"))
        return found[-1] if found else None

    def start(self) -> None:
        """Create the folder, keep others from writing into it, and say which run it holds.

        Raises:
            InputError: if another process writes into it, or has made another run of it meanwhile.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        name = f"--output-dir {str(self.path)!r}"
        self._lock = self._lock or FolderLock(self.path, name)
        if self.record.exists():
            refuse_other(f"{name} holds another run", read_json(self.record)["config"], self.config)
        else:
            write_json(self.record, {"config": self.config})


class History:
    """The run's evaluations: one JSON line each in ``metrics.jsonl``.

    Args:
        file: the file.
        writes: whether this process writes it.
        step: the step that training goes on from; later lines are taken out.
    """

    def __init__(self, file: Path, writes: bool, step: int) -> None:
        self.file, self.writes = file, writes
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        entries = [_renamed(json.loads(line)) for line in lines if line.endswith("}")]
        self.entries = [entry for entry in entries if entry["step"] <= step]
        if writes:
            text = "".join(json.dumps(entry) + "\n" for entry in self.entries)
            file.write_text(text, encoding="utf-8")

    @property
    def last(self) -> dict[str, Any]:
        """The newest evaluation, empty before the first."""
        return self.entries[-1] if self.entries else {}

    def add(self, entry: dict[str, Any]) -> None:
        """Append an evaluation."""
        self.entries.append(entry)
        if self.writes:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def _renamed(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation with the keys of today; finetuning wrote ``loss`` before 0.2."""
    return {"train_loss" if key == "loss" else key: value for key, value in entry.items()}


def refuse_other(what: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Compare two configurations.

    Raises:
        InputError: if they differ, naming every field that does.
    """
    differing = [
        f"{name} ({there.get(name)!r} there, {here.get(name)!r} here)"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise InputError(f"{what}; these differ: {', '.join(differing)}")

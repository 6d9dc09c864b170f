"""Select the files of a run's folder that belong on the Hub; this module uses no network."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json
from patchit_hf.common.layout import (
    CHECKPOINT_FILES,
    CHECKPOINTS,
    DONE_FILE,
    HEAD_FILE,
    METRICS_FILE,
    RUN_FILE,
    SUMS_FILE,
)

EXPORTED = ("*.safetensors", HEAD_FILE, "*.json", "*.md", "*.jsonl", "figures/*.png")
SHOWS_PEOPLE = (
    "patches",
    "localisation",
    "neighbours",
    "map",
    "ranks",
)  # as in patchit_hf.figures, but without importing matplotlib
CHECKPOINT_PATH = re.compile(rf"{CHECKPOINTS}/step-(\d{{8}})/[^/]+")
SNAPSHOT = ".push-"


@dataclass(frozen=True)
class Contents:
    """The files of one push.

    Attributes:
        files: local file by path in the repository.
        withheld: paths that must not be in the repository.
        finished: whether this is the export of a finished run; otherwise it is a checkpoint.
        title: the commit message.
    """

    files: dict[str, Path]
    withheld: frozenset[str]
    finished: bool
    title: str

    def stale(self, there: Iterable[str]) -> list[str]:
        """Return the files of a repository that this push deletes.

        These are other checkpoints (they stay in the repository's history) and images of people
        that must not be shown. All other files stay.
        """
        return sorted(
            name
            for name in set(there) - self.files.keys()
            if CHECKPOINT_PATH.fullmatch(name) or name in self.withheld
        )


def contents_of(folder: Path, include_people: bool = False) -> Contents:
    """Return the files of a run's folder for the Hub: its export, or else its newest checkpoint.

    Images of single people (``SHOWS_PEOPLE``) are left out unless they are asked for or the people
    are rendered.

    Raises:
        InputError: if there is neither an export nor a complete checkpoint.
    """
    if (folder / DONE_FILE).is_file():
        return _export(folder, include_people)
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        raise InputError(
            f"{str(folder)!r}: not an export: it has neither {DONE_FILE} nor a checkpoint"
        )
    files = {
        f"{CHECKPOINTS}/{checkpoint.name}/{name}": checkpoint / name
        for name in (*CHECKPOINT_FILES, SUMS_FILE)
        if (checkpoint / name).is_file()  # earlier checkpoints have no checksums
    }
    if (folder / METRICS_FILE).is_file():
        files[METRICS_FILE] = folder / METRICS_FILE
    return Contents(files, frozenset(), False, _checkpoint_title(checkpoint))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint of a folder."""
    found = [
        path
        for path in sorted((folder / CHECKPOINTS).glob("step-*"))
        if all((path / name).is_file() for name in CHECKPOINT_FILES)
    ]
    return found[-1] if found else None


def take_snapshot(folder: Path) -> Path:
    """Set a run's newest checkpoint aside, so that it survives when the run deletes it.

    Checkpoints are written once and never changed, so hard links do: they take no time and no
    space. Files are copied only on disks without hard links.

    Returns:
        A folder inside ``folder`` that ``contents_of`` reads like a run's folder; the caller
        deletes it.
    """
    contents = contents_of(folder)
    aside = Path(tempfile.mkdtemp(prefix=SNAPSHOT, dir=folder))
    try:
        for name, file in contents.files.items():
            target = aside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name == METRICS_FILE:  # the run appends to it
                shutil.copyfile(file, target)
            else:
                _link(file, target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return aside


def drop_snapshots(folder: Path) -> None:
    """Delete snapshots that a killed process left behind."""
    for old in folder.glob(f"{SNAPSHOT}*"):
        shutil.rmtree(old, ignore_errors=True)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _export(folder: Path, include_people: bool) -> Contents:
    record = read_json(folder / DONE_FILE)
    found = {
        path.relative_to(folder).as_posix(): path
        for pattern in EXPORTED
        for path in sorted(folder.glob(pattern))
        if path.is_file() and not path.name.startswith(".") and path.name != RUN_FILE
    }
    withheld: frozenset[str] = frozenset()
    if not include_people and not _rendered(record):
        withheld = frozenset(f"figures/{name}.png" for name in SHOWS_PEOPLE)
    files = {name: path for name, path in found.items() if name not in withheld}
    return Contents(files, withheld, True, _export_title(record))


def _rendered(record: dict[str, Any]) -> bool:
    data = record.get("data", {})
    return bool(data.get("rendered", data.get("name") == "people"))


def _export_title(record: dict[str, Any]) -> str:
    backbone, task, data = (record.get(key, {}) for key in ("backbone", "task", "data"))
    how = f"pretrained with {task.get('name', 'a patch task')}"
    if "averaged" in record:
        how = f"averaged over {len(record['averaged'])} runs"
    if "downstream" in record:
        how = f"finetuned for {record['downstream'].get('task')}"
    title = f"{backbone.get('name', 'A backbone')} {how}"
    title += f" on {Path(str(data.get('name', 'person crops'))).name}"
    results = record.get("results", {})
    if task.get("kwargs", {}).get("position_weight") == 0:  # places are asked beside the training
        if "eval_retrieval_accuracy" in results:
            title += f": own person found {results['eval_retrieval_accuracy']:.1%}"
    elif "eval_accuracy" in results:
        title += f": held-out accuracy {results['eval_accuracy']:.1%}"
    return title


def _checkpoint_title(checkpoint: Path) -> str:
    state = read_json(checkpoint / "state.json")
    config = state.get("config", {})
    what = f"{config.get('backbone', 'A backbone')} in training"
    if "task" in config:
        what += f" by {config['task']}"
    return f"{what}: checkpoint after {state.get('step')} steps"

"""Crops in parquet files: each is either there as a whole or not at all, and none is made twice.

While it grows, a data set lies in the hidden folder ``.work`` of its own: numbered parts, each with
the boxes it dropped and, written last, a record of which pictures it holds. A run that was stopped
goes on after the last record.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json, replacing, write_json, write_lines
from patchit_hf.common.lock import FolderLock
from patchit_hf.crops.cutting.cut import Cut, Job
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.plan import Plan

VERSION = 1
ROW_GROUP = 100  # rows a reader has to take at once
FOUND = ".detections.parquet"  # what a detector found
WORK, REPORT, DROPPED, BAD = ".work", "report.json", "dropped.jsonl", "bad_pictures.jsonl"


@dataclass
class Part:
    """Pictures whose crops go into one file.

    Attributes:
        split: of all of them.
        start: place of the first in the plan's order.
        stop: place after the last.
        crops: number of crops.
        dropped: number of boxes by reason.
        pictures: number of pictures that were decoded.
        bad: number of pictures that cannot be used.
        notes: number of pictures by what was unusual.
        stand_ins: numbers of boxes whose crops stand in for those of bad pictures.
    """

    split: str
    start: int
    stop: int
    crops: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    pictures: int = 0
    bad: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    stand_ins: list[int] = field(default_factory=list)


class Shards:
    """The data set that a plan makes, in a folder.

    Args:
        folder: made if it is not there.
        plan: what is cut.
        options: how.

    Raises:
        InputError: if the folder holds something else.
    """

    def __init__(self, folder: Path, plan: Plan, options: CropOptions) -> None:
        self.folder, self.plan, self.options = folder, plan, options
        self.work = folder / WORK
        self.identity = {
            "version": VERSION,
            "fingerprint": plan.found.fingerprint(),
            "options": options.stated(),
        }
        self.finished = self._same(folder / REPORT) and (folder / "data").is_dir()
        if self.finished:
            shutil.rmtree(self.work, ignore_errors=True)
        else:
            self._begin()
            self._lock = FolderLock(self.work, f"--output {str(folder)!r}")
        self.parts = [] if self.finished else self._records()
        self.features = features(plan)
        self._stand_ins = {number for part in self.parts for number in part.stand_ins}
        self._rows: list[dict[str, Any]] = []
        self._lines: list[dict[str, Any]] = []
        self._bad: list[dict[str, Any]] = []
        self._part: Part | None = None

    @property
    def done(self) -> int:
        """Number of jobs whose crops are safe."""
        return self.parts[-1].stop if self.parts else 0

    @property
    def gathered(self) -> list[Path]:
        """The files of all crops, wherever they are on their way, in order."""
        files = [*(self.work / "data").glob("*.parquet"), *(self.folder / "data").glob("*.parquet")]
        return sorted(files, key=lambda file: file.name)

    def add(self, place: int, job: Job, result: Cut) -> None:
        """Take the crops of the job at a place of the order; they come in order."""
        split = self.plan.split[self.plan.order[place]]
        if self._part is not None and self._part.split != split:
            self.flush()
        if self._part is None:
            self._part = Part(split, place, place)
        part = self._part
        part.stop = place + 1
        part.pictures += result.decoded
        part.notes.update(result.notes)
        for crop in result.crops:
            self._rows.append(self._row(crop))
        part.stand_ins.extend(result.replaced.values())
        self._stand_ins.update(result.replaced.values())
        for number, reason in result.dropped:
            if number not in self._stand_ins:
                part.dropped[reason] += 1
                self._lines.append(self._dropped(number, reason, job, result))
        if result.bad:
            part.bad += 1
            self._bad.append(self._unusable(job, result))
        part.crops = len(self._rows)
        if (
            part.crops >= self.options.shard_size
            or len(self._lines) >= 50 * self.options.shard_size
        ):
            self.flush()

    def flush(self) -> None:
        """Write the part; the record comes last."""
        part = self._part
        if part is None:
            return
        name = f"part-{len(self.parts):05d}"
        table = pyarrow.Table.from_pylist(self._rows, schema=self.features.arrow_schema)
        with replacing(self.work / f"{name}.parquet") as draft:
            pyarrow.parquet.write_table(table, draft, row_group_size=ROW_GROUP)
        write_lines(self.work / f"{name}.{DROPPED}", self._lines)
        write_lines(self.work / f"{name}.{BAD}", self._bad)
        write_json(self.work / f"{name}.json", part.__dict__)
        self.parts.append(part)
        self._rows, self._lines, self._bad, self._part = [], [], [], None

    def gather(self) -> dict[str, int]:
        """Bring all parts under their last names, still in ``.work``; may be done again.

        Returns:
            Number of crops by split.
        """
        data = self.work / "data"
        data.mkdir(exist_ok=True)
        counts: dict[str, int] = {}
        for split in dict.fromkeys(part.split for part in self.parts):
            numbers = [i for i, part in enumerate(self.parts) if part.split == split and part.crops]
            for place, number in enumerate(numbers):
                source = self.work / f"part-{number:05d}.parquet"
                if source.exists():
                    os.replace(source, data / f"{split}-{place:05d}-of-{len(numbers):05d}.parquet")
            if numbers:
                counts[split] = sum(self.parts[i].crops for i in numbers)
        for name in (DROPPED, BAD):
            with replacing(self.work / name) as draft, draft.open("wb") as out:
                for i in range(len(self.parts)):
                    out.write((self.work / f"part-{i:05d}.{name}").read_bytes())
        return counts

    def publish(self, report: dict[str, Any], files: dict[str, bytes]) -> None:
        """Move all to the folder: the words first, then the crops at once, then the report."""
        for name, content in files.items():
            with replacing(self.folder / name) as draft:
                draft.write_bytes(content)
        for name in (DROPPED, BAD):
            with replacing(self.folder / name) as draft:
                shutil.copyfile(self.work / name, draft)
        if any((self.work / "data").iterdir()):
            os.rename(self.work / "data", self.folder / "data")
        write_json(self.folder / REPORT, {**self.identity, **report})
        shutil.rmtree(self.work)
        self._lock.release()

    def _row(self, crop: dict[str, Any]) -> dict[str, Any]:
        found, number = self.plan.found, crop.pop("number")
        label, track = int(found.label[number]), int(found.track[number])
        more = {
            "label": found.labels[label] if label >= 0 else None,
            "track_id": found.tracks[track] if track >= 0 else None,
        }
        return {key: value for key, value in (crop | more).items() if key in self.features}

    def _dropped(self, number: int, reason: str, job: Job, result: Cut) -> dict[str, Any]:
        found = self.plan.found
        values = found.boxes[number].tolist()
        line = {
            "file": found.files[found.file[number]],
            "row": int(found.row[number]),
            "picture": job.name,
            "box": [value if math.isfinite(value) else None for value in values],
            "reason": reason,
        }
        if number in result.replaced:
            line["replaced_by"] = found.where(result.replaced[number])
        return line

    def _unusable(self, job: Job, result: Cut) -> dict[str, Any]:
        return {
            "picture": job.name,
            "first_box": self.plan.found.where(int(job.box[0])) if len(job.box) else None,
            "boxes": len(job.box),
            "reason": result.bad,
            "replaced": len(result.replaced),
        }

    def _begin(self) -> None:
        state = self.work / "run.json"
        if self._same(state):
            return
        if (self.work / "part-00000.json").is_file():
            raise InputError(
                f"--output {str(self.folder)!r}: holds an unfinished data set of other boxes or "
                "options; give the same ones, or another folder"
            )
        if (self.folder / REPORT).is_file():
            raise InputError(
                f"--output {str(self.folder)!r}: holds a data set of other boxes or options; give "
                "another folder"
            )
        if self.folder.exists() and any(p.name not in (WORK, FOUND) for p in self.folder.iterdir()):
            raise InputError(f"--output {str(self.folder)!r}: is not empty; give another folder")
        self.work.mkdir(parents=True, exist_ok=True)
        write_json(state, self.identity)

    def _same(self, file: Path) -> bool:
        if not file.is_file():
            return False
        there = read_json(file)
        mine = json.loads(json.dumps(self.identity))
        return all(there.get(key) == value for key, value in mine.items())

    def _records(self) -> list[Part]:
        parts: list[Part] = []
        while (file := self.work / f"part-{len(parts):05d}.json").is_file():
            record = read_json(file)
            record["dropped"], record["notes"] = (
                Counter(record["dropped"]),
                Counter(record["notes"]),
            )
            parts.append(Part(**record))
        return parts


def features(plan: Plan) -> Any:
    """Return the columns of the data set; those that no box has a value for are left out."""
    import datasets

    found, text = plan.found, datasets.Value("string")
    four = datasets.List(datasets.Value("float64"), length=4)
    columns = {"image": datasets.Image(), "source": text, "file": text}
    columns |= {"row": datasets.Value("int64"), "box": four, "window": four}
    columns["sharpness"] = datasets.Value("float32")
    if (found.score == found.score).any():
        columns["score"] = datasets.Value("float32")
    if found.labels:
        columns["label"] = text
    if found.tracks:
        columns["track_id"] = text
    return datasets.Features(columns)

"""Write crops to parquet files, so that a stopped run continues and never leaves half a file.

An unfinished data set lies in its hidden folder ``.work`` as numbered parts. Each part has a list
of the boxes that it dropped and, written last, a record of the images that it covers. A run that
was stopped continues after the last record.
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
ROW_GROUP = 100  # rows per row group, the least that a reader reads at a time
FOUND = ".detections.parquet"  # the boxes that a detector found
WORK, REPORT, DROPPED, BAD = ".work", "report.json", "dropped.jsonl", "bad_pictures.jsonl"


@dataclass
class Part:
    """The images whose crops go into one file.

    Attributes:
        split: their split.
        start: index of the first image in the plan's order.
        stop: index after the last image.
        crops: number of crops.
        dropped: number of dropped boxes by reason.
        pictures: number of images that were decoded.
        bad: number of images that cannot be used.
        notes: number of images by what was unusual about them.
        stand_ins: indices of the boxes whose crops replace those of bad images.
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
    """The data set of a plan, in a folder.

    Args:
        folder: the folder; created if missing.
        plan: the jobs.
        options: how a box becomes a crop.

    Raises:
        InputError: if the folder holds another data set or other files.
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
        """Number of jobs whose crops are on disk."""
        return self.parts[-1].stop if self.parts else 0

    @property
    def gathered(self) -> list[Path]:
        """All parquet files in order, in ``.work`` or in their final folder."""
        files = [*(self.work / "data").glob("*.parquet"), *(self.folder / "data").glob("*.parquet")]
        return sorted(files, key=lambda file: file.name)

    def add(self, index: int, job: Job, result: Cut) -> None:
        """Add the result of a job, given its index in the plan's order; jobs come in order."""
        split = self.plan.split[self.plan.order[index]]
        if self._part is not None and self._part.split != split:
            self.flush()
        if self._part is None:
            self._part = Part(split, index, index)
        part = self._part
        part.stop = index + 1
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
        """Write the current part, its record last."""
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
        """Give all parts their final names, still in ``.work``; may be repeated.

        Returns:
            Number of crops by split.
        """
        data = self.work / "data"
        data.mkdir(exist_ok=True)
        counts: dict[str, int] = {}
        for split in dict.fromkeys(part.split for part in self.parts):
            numbers = [i for i, part in enumerate(self.parts) if part.split == split and part.crops]
            for index, number in enumerate(numbers):
                source = self.work / f"part-{number:05d}.parquet"
                if source.exists():
                    os.replace(source, data / f"{split}-{index:05d}-of-{len(numbers):05d}.parquet")
            if numbers:
                counts[split] = sum(self.parts[i].crops for i in numbers)
        for name in (DROPPED, BAD):
            with replacing(self.work / name) as draft, draft.open("wb") as out:
                for i in range(len(self.parts)):
                    out.write((self.work / f"part-{i:05d}.{name}").read_bytes())
        return counts

    def publish(self, report: dict[str, Any], files: dict[str, bytes]) -> None:
        """Move all files to the folder: text first, then all crops at once, then the report."""
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
                f"--output {str(self.folder)!r}: holds an unfinished data set of "
                f"{self._other(state)}; give these again, or another folder"
            )
        if (self.folder / REPORT).is_file():
            raise InputError(
                f"--output {str(self.folder)!r}: holds a data set of "
                f"{self._other(self.folder / REPORT)}; give another folder"
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

    def _other(self, file: Path) -> str:
        """Return what is other about the data set of a record: its options, or its boxes."""
        if not file.is_file():
            return "other boxes or options"
        there, mine = read_json(file), json.loads(json.dumps(self.identity))
        old, new = there.get("options", {}), mine["options"]
        differing = [
            f"{name} {old.get(name)!r} there, {new.get(name)!r} here"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]
        if differing:
            return f"other options ({'; '.join(differing)})"
        if there.get("version") != mine["version"]:
            return f"another version of patchit_hf ({there.get('version')!r})"
        return "other boxes"

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
    """Return the columns of the data set, without those for which no box has a value."""
    import datasets

    found, text = plan.found, datasets.Value("string")
    four = datasets.Sequence(datasets.Value("float64"), length=4)
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

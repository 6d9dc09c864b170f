"""The people that a user points at: images, folders, patterns, videos, data sets, boxes."""

from __future__ import annotations

import glob
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from patchit_hf.common.errors import InputError, did_you_mean_file
from patchit_hf.common.hub_access import USUAL, HubAccess
from patchit_hf.crops.cutting.match import match_files
from patchit_hf.crops.cutting.videos import VideoFolder, video_files
from patchit_hf.crops.detections import Detections, read_detections
from patchit_hf.crops.detections.table import NONE
from patchit_hf.data.canvas import MAX_PIXELS
from patchit_hf.data.columns import find_image_column
from patchit_hf.data.pictures import BadPictureError, PictureFolder
from patchit_hf.data.rows import ImageRows
from patchit_hf.data.source import open_splits

logger = logging.getLogger(__name__)

Box = tuple[float, float, float, float]
TABLES = (".parquet", ".arrow", ".tar")  # a folder that holds one of these is a data set
TOLD = 5  # bad images that are named on stderr


@dataclass(frozen=True)
class Person:
    """A person in an image: the whole of it, or a box.

    Attributes:
        file: the image's file as it was given, the video, or the data set.
        image: what ``Images`` takes.
        frame: index of the frame in its video, from 0.
        split: the split of a data set.
        row: the row of the split.
        box: x0, y0, x1, y1 in pixels of the image as it is shown; None for the whole of it.
        score: of the box.
        track: of the box.
    """

    file: str
    image: Any = field(repr=False)
    frame: int | None = None
    split: str | None = None
    row: int | None = None
    box: Box | None = None
    score: float | None = None
    track: str | None = None

    @property
    def where(self) -> str:
        """What messages call it."""
        words = [self.file]
        words += [f"frame {self.frame}"] if self.frame is not None else []
        words += [f"row {self.row}"] if self.row is not None else []
        return ", ".join(words)

    def columns(self) -> dict[str, Any]:
        """Return what a table says about it, by column."""
        box = self.box or (None,) * 4
        corners = dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
        known = {"file": self.file, "frame": self.frame, "split": self.split, "row": self.row}
        return {**known, **corners, "box_score": self.score, "track": self.track}


@dataclass
class Given:
    """Everybody that is predicted or embedded, in order; images are read when they are needed.

    Args:
        images: files, folders, patterns such as ``frames/*.jpg``, videos, folders of parquet or
            arrow files, or Hub ids.
        split: the split of a data set; all of them by default.
        image_column: its image column, where there are several.
        box_column: its column of boxes, if it has one of this name.
        every: every k-th frame of a video.
        detections: a file or folder of boxes; ``images`` is then the one folder or video that they
            belong to.
        box_format: what the four numbers of a box mean, where the file does not tell.
        classes: the classes that are people, separated by commas; by their names by default.
        min_score: lowest score of a box.
        skip_bad: leave out bad images, and list them in ``bad``.
        access: how data sets are read from the Hub.

    Attributes:
        bad: why an image was left out, by its name.

    Raises:
        InputError: for anything that does not exist, and for bad images unless ``skip_bad``.
    """

    images: Sequence[str | Path]
    split: str | None = None
    image_column: str | None = None
    box_column: str | None = None
    every: int = 1
    detections: str | Path | None = None
    box_format: str | None = None
    classes: str | None = None
    min_score: float = -math.inf
    skip_bad: bool = False
    access: HubAccess = USUAL
    bad: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Person]:
        if self.detections is not None:
            yield from self._boxes(read_detections(self.detections, box_format=self.box_format))
            return
        for word in self.images:
            yield from self._people(str(word))

    def leave_out(self, where: str, reason: str) -> None:
        """Note that an image is bad.

        Raises:
            InputError: unless bad images are skipped.
        """
        if not self.skip_bad:
            raise InputError(f"{where}: {reason} (--on-bad-image skip leaves it out)")
        if where in self.bad:  # by an earlier look
            return
        self.bad[where] = reason
        if len(self.bad) <= TOLD:
            more = "; more are only counted" if len(self.bad) == TOLD else ""
            logger.warning("%s: %s; left out%s", where, reason, more)

    def _people(self, word: str) -> Iterator[Person]:
        path = Path(word).expanduser()
        if path.is_dir():
            yield from self._rows(word) if _is_data_set(path) else self._folder(path)
        elif path.is_file() and video_files(path):
            yield from self._frames(path)
        elif path.is_file():
            yield Person(str(path), path)
        elif glob.has_magic(word):
            found = sorted(glob.glob(str(path), recursive=True))
            if not found:
                raise InputError(f"IMAGES {word!r}: matches no file")
            for file in found:
                yield from self._people(glob.escape(file) if glob.has_magic(file) else file)
        elif word.count("/") == 1 and not path.parent.exists():  # org/name
            yield from self._rows(word)
        else:
            raise InputError(f"IMAGES {word!r}: no such file or folder{did_you_mean_file(path)}")

    def _folder(self, path: Path) -> Iterator[Person]:
        images = [path / file for file in PictureFolder(path).files]
        videos = [path / file for file in video_files(path)]
        if not images and not videos:
            raise InputError(f"IMAGES {str(path)!r}: holds no image, video or data set")
        for file in sorted([*images, *videos]):
            if file in videos:
                yield from self._frames(file)
            else:
                yield Person(str(file), file)

    def _frames(self, path: Path) -> Iterator[Person]:
        for name, picture in VideoFolder(path).frames(self.every):
            number = int(name.rpartition("#")[2])
            if isinstance(picture, str):
                self.leave_out(f"{path}, frame {number}", picture)
            else:
                yield Person(str(path), picture.pixels, frame=number)

    def _rows(self, word: str) -> Iterator[Person]:
        splits = open_splits(word, access=self.access)
        if self.split is not None and self.split not in splits:
            raise InputError(f"--split {self.split!r}: {word!r} has {', '.join(splits)}")
        for split, rows in splits.items():
            if self.split in (None, split):
                column = find_image_column(rows, self.image_column, word)
                named = self.box_column in rows.column_names
                boxes = rows[self.box_column] if named else None
                images = ImageRows(rows, column)
                for row in range(len(images)):
                    box = None if boxes is None or boxes[row] is None else tuple(boxes[row])
                    file = images.path(row) or word
                    yield Person(file, images[row], split=split, row=row, box=box)

    def _boxes(self, found: Detections) -> Iterator[Person]:
        if len(self.images) != 1:
            raise InputError("--detections: give the one folder or video that the boxes belong to")
        path = Path(self.images[0]).expanduser()
        if not path.exists():
            raise InputError(f"IMAGES {str(path)!r}: no such folder{did_you_mean_file(path)}")
        is_video = bool(video_files(path)) and (path.is_file() or not PictureFolder(path).files)
        if path.is_file() and not is_video:
            raise InputError(f"IMAGES {str(path)!r}: --detections need a folder or a video")
        folder = VideoFolder(path, int(found.kind == "mot")) if is_video else PictureFolder(path)
        matches, notes = match_files(found, folder)
        for note in notes:
            logger.warning("%s", note)
        files = matches.files
        if not any(files):
            raise InputError(
                f"IMAGES {str(path)!r}: holds none of the {len(files)} images of the boxes, such "
                f"as {found.images[0]!r}"
            )
        wanted = _people_among(found, self.classes)
        wanted &= ~(found.score < self.min_score)
        for image, file in enumerate(files):
            boxes = np.flatnonzero(wanted & (found.image == image))
            if file is None and len(boxes):
                name = found.images[image]
                self.leave_out(name, matches.why.get(name, "no such image"))
            elif file is not None and len(boxes):
                yield from self._people_in(folder, file, found, boxes)

    def _people_in(
        self, folder: PictureFolder | VideoFolder, file: str, found: Detections, boxes: Any
    ) -> Iterator[Person]:
        frame, name = None, str(folder.root / file)
        if isinstance(folder, VideoFolder):
            frame, name = folder.number(file), str(folder.root / file.rpartition("#")[0])
            if frame % self.every:
                return
        try:
            pixels = folder.picture(file, MAX_PIXELS).pixels
        except BadPictureError as error:
            self.leave_out(name if frame is None else f"{name}, frame {frame}", str(error))
            return
        corners = found.boxes_in(boxes, pixels.size)
        for box, (x0, y0, x1, y1) in zip(boxes.tolist(), corners.tolist(), strict=True):
            score = None if math.isnan(found.score[box]) else float(found.score[box])
            track = found.tracks[found.track[box]] if found.track[box] >= 0 else None
            yield Person(name, pixels, frame=frame, box=(x0, y0, x1, y1), score=score, track=track)


def _people_among(found: Detections, classes: str | None) -> Any:
    """Return which boxes are people, bool ``[N]``.

    Raises:
        InputError: if no class is named so.
    """
    if not found.labels:
        return np.ones(len(found), bool)
    named = [word.strip() for word in classes.split(",")] if classes else list(found.persons)
    small = {word.lower() for word in named}
    chosen = [i for i, label in enumerate(found.labels) if label.lower() in small]
    people = np.isin(found.label, [*chosen, NONE])  # boxes without a class are people
    if not people.any():
        some, given = ", ".join(found.labels[:10]), "" if classes is None else f" {classes!r}"
        raise InputError(f"--classes{given}: which boxes are people? Their classes are {some}")
    return people


def _is_data_set(path: Path) -> bool:
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return True
    return any(file.suffix in TABLES for file in path.rglob("*") if file.name[0] != ".")

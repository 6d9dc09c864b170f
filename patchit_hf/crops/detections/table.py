"""``Detections``: the form in which every reader returns its boxes."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import Boxes, to_pixels

PERSONS = ("person", "pedestrian", "people", "human")  # labels that mean a person
NONE = -1  # index of a missing label or track


@dataclass(frozen=True)
class Detections:
    """Boxes of people, and of other objects, in images; one entry per box in each array.

    Attributes:
        images: names of the images, relative to their folder.
        image: index into ``images`` for each box ``[N]``.
        boxes: xyxy ``[N, 4]``, in pixels; in fractions of the image's size if ``relative``.
        score: scores ``[N]``, NaN where there is none.
        label: index into ``labels`` ``[N]``, -1 where there is none.
        track: index into ``tracks`` ``[N]``, -1 where there is none.
        row: line or entry of the file that holds the box ``[N]``, counted from 1.
        file: index into ``files`` ``[N]``.
        labels: names of the classes.
        tracks: names of the tracks.
        files: names of the files that were read.
        sizes: width and height of each image ``[images, 2]`` as the file states them, else 0.
        sources: the video, sequence or camera of each image; empty if the file does not tell.
        splits: the split of each image; empty if the file does not tell.
        persons: labels that mean a person unless the user names others.
        relative: whether boxes are in fractions of the image's size.
        kind: name of the format.
        bad: the images that could not be read, by name, and why.
        others: other names of images whose files may be called so instead.
        notes: what the reader had to assume or leave out, one sentence each.
    """

    images: list[str]
    image: NDArray[np.int64]
    boxes: Boxes
    score: NDArray[np.float64]
    label: NDArray[np.int64]
    track: NDArray[np.int64]
    row: NDArray[np.int64]
    file: NDArray[np.int64]
    labels: list[str] = field(default_factory=list)
    tracks: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    sources: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    persons: tuple[str, ...] = PERSONS
    relative: bool = False
    kind: str = ""
    bad: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def where(self, box: int) -> str:
        """Return the file and row of a box, such as ``boxes.txt, row 17``."""
        return f"{self.files[self.file[box]]}, row {self.row[box]}"

    def boxes_in(self, box: NDArray[np.int64], size: tuple[int, int]) -> Boxes:
        """Return the given boxes in pixels of an image of the given size (width, height)."""
        return to_pixels(self.boxes[box], size) if self.relative else self.boxes[box]

    def fingerprint(self) -> str:
        """Return a hash of the content."""
        total = hashlib.blake2b(digest_size=16)
        columns = (self.image, self.boxes, self.score, self.label, self.track, self.row, self.file)
        for column in (*columns, self.sizes):
            total.update(np.ascontiguousarray(column).tobytes())
        names = (self.images, self.labels, self.tracks, self.files, self.sources, self.splits)
        for words in names:
            total.update("\0".join(words).encode() + b"\1")
        total.update(f"{self.relative} {self.kind}".encode())
        if self.others:
            total.update(repr(sorted(self.others.items())).encode())
        return total.hexdigest()

    def in_order(self) -> Detections:
        """Return the same boxes with the images sorted by name, numbers by value.

        The result does not depend on the order within a file, and a video's frames are in order.
        """
        order = sorted(range(len(self.images)), key=lambda i: natural_key(self.images[i]))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        boxes = np.argsort(rank[self.image], kind="stable")
        taken = {
            name: getattr(self, name)[boxes]
            for name in ("boxes", "score", "label", "track", "row", "file")
        }
        return replace(
            self,
            images=[self.images[i] for i in order],
            image=rank[self.image][boxes],
            sizes=self.sizes[order] if len(self.sizes) else self.sizes,
            sources=[self.sources[i] for i in order] if self.sources else [],
            splits=[self.splits[i] for i in order] if self.splits else [],
            **taken,
        )


class Builder:
    """Collects boxes one by one.

    Args:
        kind: name of the format.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.images: dict[str, int] = {}
        self.sizes: list[tuple[int, int]] = []
        self.sources: list[str] = []
        self.splits: list[str] = []
        self._names: dict[str, dict[str, int]] = {"label": {}, "track": {}, "file": {}}
        # Six numbers per box; a list of tuples would take ten times the memory.
        self._columns = array("d")
        self._boxes = array("d")
        self._others: dict[str, str] = {}
        self._notes: list[str] = []
        self._unreadable: list[InputError] = []

    def picture(
        self,
        name: str,
        size: tuple[int, int] = (0, 0),
        source: str = "",
        split: str = "",
        other: str = "",
    ) -> int:
        """Return the index of an image; its first mention sets size, source and split.

        Args:
            name: its name.
            size: width and height, or zeros.
            source: the video, sequence or camera, if known.
            split: its split, if known.
            other: another name that its file may have, if it is not called ``name``.
        """
        name = name.replace("\\", "/")
        if other:
            self._others[name] = other.replace("\\", "/")
        if name not in self.images:
            self.images[name] = len(self.images)
            self.sizes.append(size)
            self.sources.append(source)
            self.splits.append(split)
        return self.images[name]

    def box(
        self,
        image: int,
        xyxy: tuple[float, float, float, float],
        *,
        file: str,
        row: int,
        score: float = float("nan"),
        label: str | None = None,
        track: str | None = None,
    ) -> None:
        """Add a box of an image."""
        self._boxes.extend(xyxy)
        codes = [self._code(k, v) for k, v in (("label", label), ("track", track), ("file", file))]
        self._columns.extend((image, score, codes[0], codes[1], row, codes[2]))

    def unreadable(self, image: int, error: InputError, *, file: str, row: int) -> None:
        """Add a box that cannot be read: it is dropped and reported, and the others are used."""
        self._unreadable.append(error)
        self.box(image, (math.nan, math.nan, math.nan, math.nan), file=file, row=row)

    def note(self, sentence: str) -> None:
        """Say what had to be assumed, once."""
        if sentence not in self._notes:
            self._notes.append(sentence)

    def assume(self, person: str, where: str) -> None:
        """Say which class is taken for a person, because nothing names the classes."""
        if person not in self._names["label"]:
            return
        self.note(
            f"{where}: nothing names the classes; class {person} is taken for a person (--classes "
            "takes another)"
        )

    def done(self, *, persons: tuple[str, ...] = (), relative: bool = False) -> Detections:
        """Return all boxes that were added, sorted by the names of their images.

        Raises:
            InputError: if half of the boxes or more cannot be read: that of the first.
        """
        bad = len(self._unreadable)
        if bad and 2 * bad >= len(self._boxes) // 4:
            raise self._unreadable[0]
        if bad > 1:
            first = self._unreadable[0]
            self.note(f"{bad:,} boxes cannot be read and are left out, the first: {first}")
        elif bad:
            self.note(f"1 box cannot be read and is left out: {self._unreadable[0]}")
        columns = np.array(self._columns).reshape(-1, 6).T
        image, label, track, row, file = (columns[i].astype(np.int64) for i in (0, 2, 3, 4, 5))
        more: dict[str, Any] = {"persons": persons} if persons else {}
        return Detections(
            images=list(self.images),
            image=image,
            boxes=np.array(self._boxes).reshape(-1, 4),
            score=columns[1],
            label=label,
            track=track,
            row=row,
            file=file,
            labels=list(self._names["label"]),
            tracks=list(self._names["track"]),
            files=list(self._names["file"]),
            sizes=np.array(self.sizes, np.int64).reshape(len(self.images), 2),
            sources=self.sources if any(self.sources) else [],
            splits=self.splits if any(self.splits) else [],
            relative=relative,
            kind=self.kind,
            others=self._others,
            notes=tuple(self._notes),
            **more,
        ).in_order()

    def _code(self, kind: str, name: str | None) -> int:
        return NONE if name is None else self._names[kind].setdefault(name, len(self._names[kind]))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts ``frame_9`` before ``frame_10``."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts if p]


def number(text: object, where: str, what: str) -> float:
    """Convert to a number. NaN and infinity pass; the filters drop and report them.

    Raises:
        InputError: if it is not a number.
    """
    try:
        return float(cast("str | float", text))  # anything else raises
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: {what} {repr(text)[:60]}: must be a number") from None


def four(values: list[object], where: str) -> tuple[float, float, float, float]:
    """Convert the four numbers of a box.

    Raises:
        InputError: if they are not four numbers.
    """
    if len(values) != 4:
        raise InputError(f"{where}: the box has {len(values)} numbers; must be 4")
    a, b, c, d = (number(value, where, "box") for value in values)
    return a, b, c, d


def numbers_in(text: str) -> list[object]:
    """Return the numbers of a list that is written as text, each as text.

    Example:
        >>> numbers_in("[1, 2.5; 3 4]")
        ['1', '2.5', '3', '4']
    """
    return [word for word in re.split(r"[\s,;|]+", text.strip().strip("[](){}<>\"'")) if word]


def pixels(value: object) -> int:
    """Return a stated width or height, also from text or a fraction; 0 if there is none."""
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError):
        return 0


def key_of(value: object) -> str | None:
    """Return an id as text, alike for ``7``, ``7.0``, ``"7"`` and ``[7]``; None if there is none.

    Example:
        >>> key_of(7.0), key_of("7"), key_of([7]), key_of("007"), key_of(None)
        ('7', '7', '7', '007', None)
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int | float | str):
        return None
    return re.sub(r"^(\d+)\.0+$", r"\1", str(value).strip()) or None

"""Decide from the boxes alone what is cut, in which order and for which split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from patchit_hf.common.errors import InputError
from patchit_hf.common.names import files_below
from patchit_hf.crops.cutting.cut import Job
from patchit_hf.crops.cutting.match import Images, match_files
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.cutting.select import KEPT, LEFT_OUT, Words, before_decoding, thin
from patchit_hf.crops.cutting.videos import VideoFolder, video_files
from patchit_hf.crops.detections import Detections
from patchit_hf.data.picture_table import PictureTable
from patchit_hf.data.pictures import BadPictureError, Picture, PictureFolder

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Plan:
    """All jobs in their order.

    Attributes:
        found: the boxes.
        folder: the images or videos.
        files: file of each image, or None.
        order: indices of the images, split by split.
        split: split of each image.
        source: source of each image.
        by: what a source is: ``source`` (a video, say), ``folder`` or ``image``.
        reasons: why boxes are already dropped ``[N]``; empty where they are not.
        starts: index of each image's first box, then the number of boxes ``[images + 1]``.
        why: why images have no file, by their name.
        notes: what was assumed to find files and boxes, one sentence each.
    """

    found: Detections
    folder: Images
    files: list[str | None]
    order: list[int]
    split: list[str]
    source: list[str]
    by: str
    reasons: Words
    starts: NDArray[np.int64]
    why: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.order)

    def jobs(self, start: int, max_pixels: int) -> Iterator[Job]:
        """Yield the jobs from index ``start`` on; frames of videos are decoded here."""
        for image in self.order[start:]:
            yield self._job(image, self.reasons[self._boxes(image)], max_pixels)

    def job_for(self, box: int, max_pixels: int) -> Job:
        """Return the job that cuts one box that was left out of its track, and no other box."""
        boxes = self._boxes(int(self.found.image[box]))
        reasons = self.reasons[boxes].copy()
        reasons[np.isin(reasons, (KEPT, *LEFT_OUT))] = "thinned"  # their people still cover others
        reasons[box - boxes[0]] = KEPT
        return self._job(int(self.found.image[box]), reasons, max_pixels)

    def _boxes(self, image: int) -> NDArray[np.int64]:
        return np.arange(self.starts[image], self.starts[image + 1])

    def _job(self, image: int, reasons: Words, max_pixels: int) -> Job:
        found, box, file = self.found, self._boxes(image), self.files[image]
        size = found.sizes[image].tolist() if len(found.sizes) else [0, 0]
        picture: Picture | str | None = found.bad.get(found.images[image])
        if picture is None and file is None and (reasons == KEPT).any():
            picture = self.why.get(found.images[image], "no such file")
        elif not isinstance(self.folder, PictureFolder) and (reasons == KEPT).any():
            picture = self._decoded(self.folder, str(file), max_pixels)
        return Job(
            name=file or found.images[image],
            path=None if file is None else self.folder.root / file,
            source=self.source[image],
            box=box,
            boxes=found.boxes[box],
            reasons=reasons,
            row=found.row[box],
            score=found.score[box],
            size=(size[0], size[1]),
            relative=found.relative,
            picture=picture,
        )

    def _decoded(
        self, folder: VideoFolder | PictureTable, file: str, max_pixels: int
    ) -> Picture | str:
        try:
            return folder.picture(file, max_pixels)
        except BadPictureError as error:
            return str(error)


def open_images(images: str | Path, options: CropOptions, kind: str) -> Images:
    """Open a folder of images, of videos or of Parquet files with images, or one of the latter two.

    A folder that holds images is a folder of images, whatever else it holds.

    Args:
        images: the folder or the video.
        options: for the number of the first frame.
        kind: format of the boxes, which sets the default of that number.

    Raises:
        InputError: if the path does not exist, or is a file but no video and no Parquet file.
    """
    path = Path(images).expanduser()
    if path.is_file() and path.suffix == ".parquet":
        return PictureTable(path)
    if path.is_file() and not video_files(path):
        raise InputError(
            f"--images {str(images)!r}: is not a video; must be a folder or a video, or Parquet"
        )
    if video_files(path) and (path.is_file() or not PictureFolder(path).files):
        first = int(kind == "mot") if options.first_frame is None else options.first_frame
        return VideoFolder(path, first)
    folder = PictureFolder(path, options.first_frame)
    if not folder.files and files_below(path, (".parquet",)):
        return PictureTable(path)
    return folder


def make_plan(found: Detections, folder: Images, options: CropOptions) -> Plan:
    """Decide on order, splits and dropped boxes without opening an image.

    Raises:
        InputError: if no image is found, or no class means a person.
    """
    matches, notes = match_files(found, folder)
    files = matches.files
    if not any(files):
        name = found.images[0]
        raise InputError(
            f"--images {str(folder.root)!r}: holds none of the {len(files)} images of the boxes, "
            f"such as {name!r} ({matches.why.get(name, 'no such file')})"
        )
    reasons = before_decoding(found.boxes, _persons(found, options), found.score, options)
    reasons = _other_frames(found, folder, files, reasons, options.every)
    reasons = thin(reasons, found.track, options.keep_every)
    counts = np.bincount(found.image, minlength=len(found.images))
    wanted = np.bincount(found.image[reasons == KEPT], minlength=len(found.images))
    names = [file or name for file, name in zip(files, found.images, strict=True)]
    videos = isinstance(folder, VideoFolder)
    source, by = _sources(found, names, options.source, videos=videos)
    split = found.splits or _split(source, wanted, options)
    _check(source, split)
    order = [i for name in _ordered(split) for i in range(len(split)) if split[i] == name]
    starts = np.concatenate([[0], np.cumsum(counts)])
    notes = (*found.notes, *notes)
    return Plan(found, folder, files, order, split, source, by, reasons, starts, matches.why, notes)


def _persons(found: Detections, options: CropOptions) -> NDArray[np.bool_]:
    """Return which boxes are people by their class; boxes without a class are."""
    if options.classes is None:
        wanted = {name.lower() for name in found.persons}
    else:
        wanted = {name.strip().lower() for name in options.classes.split(",")}
        unknown = wanted - {name.lower() for name in found.labels}
        if unknown:
            raise InputError(
                f"--classes {options.classes!r}: no box has the class {', '.join(sorted(unknown))} "
                f"(classes: {_some(found.labels)})"
            )
    mask = np.array([name.lower() in wanted for name in found.labels] + [True], dtype=np.bool_)
    persons: NDArray[np.bool_] = mask[found.label]  # -1, no label, is the last
    if not persons.any():
        raise InputError(
            f"no class of the boxes is known to mean a person (classes: {_some(found.labels)}); "
            "name it with --classes"
        )
    return persons


def _other_frames(
    found: Detections,
    folder: Images,
    files: list[str | None],
    reasons: Words,
    every: int,
) -> Words:
    """Mark the boxes of all but every k-th frame."""
    if every == 1:
        return reasons
    if not isinstance(folder, VideoFolder):
        raise InputError(f"--every {every}: is for videos; for tracks in images, use --keep-every")
    wanted = np.array([file is None or folder.number(file) % every == 0 for file in files])
    reasons = reasons.copy()
    reasons[(reasons == KEPT) & ~wanted[found.image]] = "other frame"
    return reasons


def _sources(
    found: Detections, names: list[str], choice: str, *, videos: bool
) -> tuple[list[str], str]:
    """Return the source of each image, and what a source is (see ``Plan.by``)."""
    folders = [PurePosixPath(name).parent.as_posix() for name in names]
    if choice == "auto" and found.sources:
        missing = [source or name for source, name in zip(found.sources, names, strict=True)]
        return missing, "source"
    if choice == "auto" and videos:
        return [name.partition("#")[0] for name in names], "source"
    if choice == "folder" or (choice == "auto" and (found.tracks or len(set(folders)) > 1)):
        return folders, "folder"
    if choice in ("auto", "image"):
        return names, "image"
    try:
        pattern = re.compile(choice)
    except re.error as error:
        raise InputError(f"--source {choice!r}: is not a regular expression: {error}") from error
    if pattern.groups < 1:
        raise InputError(
            f"--source {choice!r}: must be auto, image, folder, or a regular expression "
            "with a group"
        )
    matches = [pattern.search(name) for name in names]
    for match, name in zip(matches, names, strict=True):
        if match is None:
            raise InputError(f"--source {choice!r}: does not match the image {name!r}")
    return [str(match[1]) for match in matches if match], "source"


def _split(source: list[str], counts: NDArray[np.int64], options: CropOptions) -> list[str]:
    """Assign whole sources to splits by the hash of their names, until each has its fraction."""
    sizes: dict[str, int] = {}
    for name, count in zip(source, counts.tolist(), strict=True):
        sizes[name] = sizes.get(name, 0) + count
    left = sorted(sizes, key=lambda name: hashlib.blake2b(name.encode()).digest())
    side = dict.fromkeys(left, "train")
    total = sum(sizes.values())
    for split, share in (("validation", options.validation), ("test", options.test)):
        target, taken = share * total, 0
        for name in left if target else []:
            if taken < target and taken + sizes[name] <= 1.5 * target:
                side[name], taken = split, taken + sizes[name]
        left = [name for name in left if side[name] == "train"]
        if target and not taken and len(left) > 1:
            small = min(left, key=lambda name: (sizes[name], name))
            side[small] = split
            left.remove(small)
    return [side[name] for name in source]


def _check(source: list[str], split: list[str]) -> None:
    side: dict[str, str] = {}
    for name, word in zip(source, split, strict=True):
        if side.setdefault(name, word) != word:
            raise InputError(
                f"the boxes' file puts the source {name!r} into two splits ({side[name]}, {word}); "
                "no two splits may share a video, camera or image"
            )


def _ordered(split: list[str]) -> list[str]:
    named = set(split)
    for name in named:
        if not re.fullmatch(r"\w+(\.\w+)*", name):
            raise InputError(f"split {name!r}: must be a word such as train")
    return [name for name in SPLITS if name in named] + sorted(named - set(SPLITS))


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")

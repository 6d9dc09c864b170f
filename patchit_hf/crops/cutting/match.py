"""Find the files of the images that boxes name."""

from __future__ import annotations

from collections import Counter

from patchit_hf.common.names import Matches
from patchit_hf.crops.cutting.videos import VideoFolder
from patchit_hf.crops.detections import Detections
from patchit_hf.data.picture_table import PictureTable
from patchit_hf.data.pictures import PictureFolder

Images = PictureFolder | VideoFolder | PictureTable


def match_files(found: Detections, folder: Images) -> tuple[Matches, tuple[str, ...]]:
    """Find the file of each image by its name, else by its other name; never one file for two.

    Returns:
        The files, and what is worth knowing about them, one sentence each.
    """
    matches = folder.match(found.images)
    lost = {name for name in matches.why if name in found.others}
    if lost:
        called = [found.others[name] if name in lost else name for name in found.images]
        again = folder.match(called)
        _fill(matches, found.images, called, again, lost)
    notes = []
    if matches.moved:
        name, file = next(iter(matches.moved.items()))
        notes.append(f"{_images(len(matches.moved))} found in another folder: {name} is {file}")
    there = set(folder.files)
    both = {n: o for n, o in found.others.items() if o in there and n not in matches.why}
    if both and isinstance(folder, PictureFolder):
        name, other = next(iter(both.items()))
        notes.append(
            f"{_images(len(both))} taken by the name of the annotation, though the annotation "
            f"states another file that is there, too: {name} states {other}"
        )
    return matches, tuple(notes)


def _fill(
    matches: Matches, names: list[str], called: list[str], again: Matches, lost: set[str]
) -> None:
    """Take the files that lost images have by their other names."""
    taken = Counter(matches.files)
    taken.update(again.files[i] for i, name in enumerate(names) if name in lost)
    for i, name in enumerate(names):
        file = again.files[i]
        if name not in lost or file is None:
            continue
        if taken[file] > 1:
            matches.why[name] = f"no such file; {file} is the image of other boxes, too"
            continue
        matches.files[i] = file
        del matches.why[name]
        if called[i] in again.moved:
            matches.moved[name] = file


def _images(count: int) -> str:
    return f"{count:,} images are" if count > 1 else "1 image is"

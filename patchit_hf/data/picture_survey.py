"""Look over a folder of images: which splits there are, what is left out, and what is misread.

``datasets`` decides by names what it reads: of a folder in which some names hold "test", "train" or
"val", it takes nothing else; of the files it takes the most frequent kind. This module says which
images belong to which split, and whether ``datasets`` would take the same ones.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow

from patchit_hf.common.walk import dangling, private, walk
from patchit_hf.data import heif
from patchit_hf.data.split_names import IN_NAME, SEARCHED, SPLIT_OF

CHUNK = 10_000
SHARDS = (".parquet", ".arrow", ".tar")  # which may hold images, too
OURS = {".avif", ".avifs", *heif.ENDINGS}  # images that datasets does not list
UNREAD = {".nef", ".cr2", ".cr3", ".arw", ".dng", ".orf", ".raf", ".rw2", ".jxl", ".svg"}


@dataclass(frozen=True)
class FolderRules:
    """The rules by which ``datasets`` reads a folder.

    Attributes:
        images: file extensions of images.
        read: file extensions of all kinds of data; the most frequent one decides what is read.
        metadata: file names of tables of metadata.
        ignored: file names that it ignores.
    """

    images: frozenset[str]
    read: frozenset[str]
    metadata: frozenset[str]
    ignored: frozenset[str]


def folder_rules() -> FolderRules:
    """Return the rules of the installed version of ``datasets``, where they are private.

    Raises:
        ImportError: if that version has other names for them.
        AttributeError: likewise.
    """
    from datasets.data_files import FILES_TO_IGNORE
    from datasets.packaged_modules import _ALL_ALLOWED_EXTENSIONS, _ALL_METADATA_FILENAMES
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    return FolderRules(
        frozenset(ImageFolder.EXTENSIONS),
        frozenset(_ALL_ALLOWED_EXTENSIONS),
        frozenset(_ALL_METADATA_FILENAMES),
        frozenset(FILES_TO_IGNORE),
    )


@dataclass
class Survey:
    """What a folder holds.

    Attributes:
        paths: absolute paths of the images of each split, in Arrow arrays.
        count: number of images in them.
        shards: number of files that may hold images, too.
        plain: whether they are all there is to read: no tables, archives or shards.
        tables: whether there are tables of metadata beside the images, and nothing else decides.
        misread: whether ``datasets`` would take others, or none.
        ours: whether there are images of kinds that ``datasets`` passes over.
        heif: whether some of them can only be read with ``pillow-heif``.
        deep: whether names of folders further down, or of the images, say which split they are.
        notes: what is left out, and why; one line each.
    """

    paths: dict[str, list[Any]] = field(default_factory=dict)
    count: int = 0
    shards: int = 0
    plain: bool = False
    tables: bool = False
    misread: bool = False
    ours: bool = False
    heif: bool = False
    deep: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass
class _Seen:
    """What the walk saw: images by directory, and everything that matters beside them."""

    images: dict[str, list[Any]] = field(default_factory=dict)
    endings: dict[str, Counter[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    named: int = 0  # images whose names hold the word of a split
    named_train: bool = False
    other_named: bool = False  # whether other files have such names
    tables: bool = False
    special: bool = False  # archives, or a README whose header may define the data
    ours: bool = False  # whether there are images that datasets does not see
    heif: bool = False


def survey(folder: Path, rules: FolderRules) -> Survey:
    """Look over a folder; symbolic links to folders are followed.

    Args:
        folder: the folder.
        rules: those of ``datasets``.

    Raises:
        OSError: for a folder that cannot be read.
    """
    root = folder.resolve()
    seen = _Seen()
    for inside, entries in walk(root, skip=private):
        _look(root, inside, entries, rules, seen)
    return _judged(root, seen, rules)


def _look(root: Path, inside: str, entries: Any, rules: FolderRules, seen: _Seen) -> None:
    """Note what a directory holds."""
    endings: Counter[str] = Counter()
    parts: list[Any] = []
    while chunk := list(islice(entries, CHUNK)):
        names = []
        for entry in chunk:
            stem, ending = os.path.splitext(entry.name)
            ending = ending.lower()
            image = ending in rules.images or ending in OURS
            if private(entry.name):
                seen.counts["hidden"] += image and not entry.name.startswith("._")
            elif image and entry.is_symlink() and dangling(entry):
                seen.counts["dangling"] += 1
            elif ending in heif.ENDINGS and not heif.readable():
                seen.counts["heif"] += 1
                seen.heif = True
            elif image:
                endings[ending] += 1
                _name(stem, seen)
                seen.ours |= ending in OURS
                seen.heif |= ending in heif.ENDINGS
                names.append(os.path.join(root, inside, entry.name))
            else:
                _other(Path(entry.path), stem, ending, endings, rules, seen)
        if names:
            parts.append(pyarrow.array(names, pyarrow.large_string()))
    seen.endings[inside] = endings
    if parts:
        seen.images[inside] = parts


def _name(stem: str, seen: _Seen) -> None:
    match = IN_NAME.search(stem)
    if match:
        seen.named += 1
        seen.named_train |= SPLIT_OF[match.group(2)] == "train"


def _other(
    file: Path, stem: str, ending: str, endings: Counter[str], rules: FolderRules, seen: _Seen
) -> None:
    """Note a file that is no image."""
    if file.name == "README.md":
        with file.open("rb") as text:
            seen.special |= text.read(3) == b"---"
    elif file.name in rules.metadata:
        seen.tables = True
    elif file.name in ("task.toml", "instruction.md") or ending in (".zip", ".eval"):
        seen.special = True
    elif file.name not in rules.ignored:
        endings[ending] += ending in rules.read
        seen.counts["unread"] += ending in UNREAD
        seen.other_named |= IN_NAME.search(stem) is not None


def _judged(root: Path, seen: _Seen, rules: FolderRules) -> Survey:
    found = Survey()
    splits, deep, bare = _splits(list(seen.images))
    marked = any(splits.values()) or None in splits.values()
    for inside, parts in seen.images.items():
        split = splits[inside]
        if split is None:
            seen.counts["beside"] += sum(map(len, parts))
        else:
            found.paths.setdefault(split or "train", []).extend(parts)
    found.ours, found.heif = seen.ours, seen.heif
    found.count = sum(len(part) for parts in found.paths.values() for part in parts)
    found.tables, found.deep = seen.tables and not seen.special, deep
    total: Counter[str] = Counter()
    for endings in seen.endings.values():
        total.update(endings)
    shards = sum(total[ending] for ending in SHARDS)
    found.shards = shards
    pictures = sum(n for ending, n in total.items() if ending in rules.images or ending in OURS)
    found.plain = bool(found.count) and not (seen.special or seen.tables) and shards <= pictures
    words = not marked and bool(seen.named)
    by_name = words and not _scheme(seen, found.count)
    found.deep |= words and not by_name
    found.misread = (
        bare
        or by_name
        or _linked(root, list(seen.images))
        or (seen.other_named and not marked)
        or _outvoted(seen, splits, rules)
        or any(sign in str(root) for sign in "*[]?")
    )
    found.notes = _notes(seen, found, shards, pictures, by_name=by_name)
    return found


def _scheme(seen: _Seen, count: int) -> bool:
    """Say whether images are named after splits: all, or most with some for training."""
    return seen.named == count or (seen.named_train and seen.named * 2 >= count)


def _splits(directories: list[str]) -> tuple[dict[str, str | None], bool, bool]:
    """Return the split of each directory: its name, "" for none, None for left out.

    Also whether a folder further down decides, and whether some lie in no split although others do.
    """
    marks = {inside: _mark(inside) for inside in directories}
    known = {split for split, _ in marks.values()}
    bare = [inside for inside, (split, _) in marks.items() if not split]
    deep = any(split and not _on_top(inside) for inside, (split, _) in marks.items())
    found: dict[str, str | None] = {inside: split for inside, (split, _) in marks.items()}
    if not bare or known == {""}:
        return found, deep, False
    exact = {split for split, whole in marks.values() if whole}
    if "train" in exact or ("train" in known and len(known - {""}) > 1):
        for inside in bare:
            top = inside.split(os.sep)
            found[inside] = next((part for part in top if part in SEARCHED), None)
    else:  # only whole names count, and what is in none of them is trained on
        found = {inside: split if whole else "" for inside, (split, whole) in marks.items()}
    return found, deep, True


def _mark(inside: str) -> tuple[str, bool]:
    """Return the split that a path names, and whether a folder's whole name is its word."""
    for part in inside.split(os.sep):
        if part in SPLIT_OF:
            return SPLIT_OF[part], True
    match = IN_NAME.search(inside)
    return (SPLIT_OF[match.group(2)], False) if match else ("", False)


def _on_top(inside: str) -> bool:
    """Say whether the first folder of a path is a split's, and no other has a word in its name."""
    top, _, rest = inside.partition(os.sep)
    return top in SPLIT_OF and not IN_NAME.search(rest)


def _linked(root: Path, directories: list[str]) -> bool:
    """Say whether images lie in linked folders, which datasets does not see."""
    links: dict[str, bool] = {"": False}

    def through(inside: str) -> bool:
        if inside not in links:
            parent = os.path.dirname(inside)
            links[inside] = through(parent) or os.path.islink(os.path.join(root, inside))
        return links[inside]

    return any(through(inside) for inside in directories)


def _outvoted(seen: _Seen, splits: dict[str, str | None], rules: FolderRules) -> bool:
    """Say whether a split has more files of another kind than images, which datasets then reads."""
    by_split: dict[str, Counter[str]] = {}
    for inside, endings in seen.endings.items():
        split = splits.get(inside, _mark(inside)[0]) or ""
        by_split.setdefault(split, Counter()).update(endings)
    return any(
        by_split[split or ""].most_common(1)[0][0] not in rules.images
        for split in set(splits.values())
        if split is not None and by_split[split or ""]
    )


def _notes(seen: _Seen, found: Survey, shards: int, pictures: int, *, by_name: bool) -> list[str]:
    """Return a line about each thing that is left out, or read in another way than by its name."""
    counts, total = seen.counts, found.count
    notes = []
    if shards > pictures and pictures:
        notes.append(f"{pictures} images are left out: there are more shards ({shards})")
    elif shards and pictures:
        notes.append(f"{shards} shards are left out: there are more images ({pictures})")
    lines = {
        "beside": "images are left out: they lie beside the folders of the splits",
        "dangling": "images are left out: links to files that are not there",
        "hidden": "images are left out: their names begin with a dot or two underscores",
        "heif": f"images are left out: HEIC needs the package pillow-heif ({heif.HINT})",
        "unread": "images are left out: raw, vector and JPEG XL files are not read",
    }
    notes += [f"{counts[key]} {words}" for key, words in lines.items() if counts[key]]
    if by_name:
        notes.append(
            f"{seen.named} of {total} images have the word of a split in their names; only folders "
            "make splits, so all of them are taken"
        )
    return notes

"""Bad images, which cannot be decoded or used: the policy for them, and the list of them."""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from patchit_hf.common.draws import philox
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import write_lines
from patchit_hf.common.layout import RUN_FILE
from patchit_hf.common.resources import writing
from patchit_hf.common.shown import redact
from patchit_hf.data.choices import ON_BAD as ON_BAD

logger = logging.getLogger(__name__)

Key = tuple[object, ...]
MANIFEST = "bad_images.jsonl"
TOLD = 5  # bad images that are reported on stderr; the manifest lists all
TRIES = 1000  # rows that are tried as replacement for a bad one


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be decoded or used.

    Attributes:
        part: ``train`` or ``held_out``.
        row: its row in the split; in a stream, its index among the rows that one worker reads in
            an epoch.
        file: its file name, or None if it has none.
        reason: what is wrong with it.
        became: what was done about it.
        reader: in a stream, the epoch, process and worker that read it.
        digest: in a stream, the hash of the image's bytes, which identifies it.
    """

    part: str
    row: int
    file: str | None
    reason: str
    became: str
    reader: str | None = None
    digest: str | None = None

    @property
    def key(self) -> Key:
        """What identifies it: its row; in a stream, its file name and content."""
        return (self.part, self.row) if self.reader is None else (self.part, self.file, self.digest)


@dataclass
class BadImages:
    """The bad images of a data set, and the policy for them.

    Attributes:
        policy: ``raise``, ``skip`` or ``replace``.
        name: name of the data in errors.
        part: ``train`` or ``held_out``.
        folder: the run's folder, where the manifest is written once the run has started; None
            writes none.
        found: the bad images by ``key``.

    Raises:
        InputError: for an unknown policy.
    """

    policy: str = "raise"
    name: str = "data set"
    part: str = "train"
    folder: Path | None = None
    found: dict[Key, BadImage] = field(default_factory=dict)
    _written: int = 0

    def __post_init__(self) -> None:
        if self.policy not in ON_BAD:
            raise InputError(f"--on-bad-image {self.policy!r}: must be one of {', '.join(ON_BAD)}")

    def add(self, image: BadImage) -> None:
        """Record a bad image.

        Raises:
            InputError: if the policy is ``raise``.
        """
        named = f" (file {image.file})" if image.file else ""
        reader = f" of {image.reader}" if image.reader else ""
        where = f"{self.name}, row {image.row}{reader}{named}"
        if self.policy == "raise":
            raise InputError(
                f"{where}: not a readable image: {image.reason} (to continue, give --on-bad-image "
                "skip or replace)"
            )
        if image.key in self.found:
            return
        self.found[image.key] = image
        if len(self.found) <= TOLD:
            more = f"; further bad images are only listed in {MANIFEST}" * (len(self.found) == TOLD)
            logger.warning("%s: %s; %s%s", where, image.reason, image.became, more)
        if self.folder is not None and (self.folder / RUN_FILE).exists():
            self._append(self.folder / MANIFEST)

    def _append(self, path: Path) -> None:
        """Append the images that are not written yet; several processes may append at a time."""
        fresh = list(self.found.values())[self._written :]
        lines = (redact(json.dumps(asdict(image), ensure_ascii=False)) + "\n" for image in fresh)
        text = "".join(lines)
        with writing(path), path.open("ab", buffering=0) as file:
            file.write(text.encode(errors="backslashreplace"))
        self._written = len(self.found)


def settle(folder: Path, *parts: BadImages) -> int:
    """Rewrite the manifest of a run: the bad images of all processes and starts, once each, sorted.

    Args:
        folder: the run's folder; without bad images, no manifest is written.
        *parts: the bad images of this process.

    Returns:
        The number of bad images.
    """
    path = folder / MANIFEST
    found = read_manifest(path)
    for part in parts:
        found |= part.found
    if found:
        ordered = sorted(
            found.values(), key=lambda image: (image.part, image.row, str(image.reader))
        )
        write_lines(path, [asdict(image) for image in ordered])
    return len(found)


def read_manifest(path: Path) -> dict[Key, BadImage]:
    """Return the entries of a manifest by ``key``; half a line, or a damaged one, is none."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    images = [image for image in map(_entry, lines) if image is not None]
    return {image.key: image for image in images}


def _entry(line: bytes) -> BadImage | None:
    try:
        image = BadImage(**json.loads(line))
        hash(image.key)
    except (ValueError, TypeError, RecursionError):
        return None
    return image if isinstance(image.part, str) and isinstance(image.row, int) else None


def substitute(row: int, attempt: int, size: int) -> int:
    """Return the row to try as replacement for a bad one: a function of the arguments alone.

    Args:
        row: the bad row.
        attempt: number of replacements that were tried before and were bad, too.
        size: number of rows.
    """
    mask = 0xFFFFFFFF
    counter = (row & mask, row >> 32, zlib.crc32(b"substitute"), attempt)
    word = philox(tuple(np.array(value, np.uint64) for value in counter), (0, 0))[0]
    return (int(word) * size) >> 32

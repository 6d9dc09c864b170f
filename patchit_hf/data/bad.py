"""Images that nothing can be learnt from: what to do about them, and the list of them."""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from patchit_hf.common.draws import philox
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import write_lines
from patchit_hf.common.layout import RUN_FILE

logger = logging.getLogger(__name__)

Key = tuple[object, ...]
OnBad = Literal["raise", "skip", "replace"]
ON_BAD: tuple[str, ...] = get_args(OnBad)
MANIFEST = "bad_images.jsonl"
TOLD = 5  # bad images that get a line of their own on stderr; the manifest has all
TRIES = 1000  # rows that are tried in place of a bad one


@dataclass(frozen=True)
class BadImage:
    """One of them.

    Attributes:
        part: ``train`` or ``held_out``.
        row: its row in the split that was read; of a stream, its place in what one worker reads in
            an epoch.
        file: its name, or None where it has none.
        reason: what is wrong with it.
        became: what was done about it.
        reader: of a stream, which epoch, process and worker read it.
        digest: of a stream, the hash of the image's bytes, which tells it from others.
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
        """What tells it from others: its row, and its name and content where rows are no places."""
        return (self.part, self.row) if self.reader is None else (self.part, self.file, self.digest)


@dataclass
class BadImages:
    """The bad images of a data set, and the policy.

    Attributes:
        policy: ``raise``, ``skip`` or ``replace``.
        name: what errors call the data.
        part: ``train`` or ``held_out``.
        folder: the run's folder, which gets the manifest once the run has started; None for none.
        found: by ``key``.
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
        """Take note of a bad image.

        Raises:
            InputError: if the policy says so.
        """
        named = f" (file {image.file})" if image.file else ""
        reader = f" of {image.reader}" if image.reader else ""
        where = f"{self.name}, row {image.row}{reader}{named}"
        if self.policy == "raise":
            raise InputError(
                f"{where}: not a readable image: {image.reason} (--on-bad-image skip or replace "
                "goes on without it)"
            )
        if image.key in self.found:
            return
        self.found[image.key] = image
        if len(self.found) <= TOLD:
            more = f"; no more lines of this kind, see {MANIFEST}" * (len(self.found) == TOLD)
            logger.warning("%s: %s; %s%s", where, image.reason, image.became, more)
        if self.folder is not None and (self.folder / RUN_FILE).exists():
            self._append(self.folder / MANIFEST)

    def _append(self, path: Path) -> None:
        """Add what is not written yet; several processes may do so at a time."""
        fresh = list(self.found.values())[self._written :]
        text = "".join(json.dumps(asdict(image), ensure_ascii=False) + "\n" for image in fresh)
        with path.open("ab", buffering=0) as file:
            file.write(text.encode())
        self._written = len(self.found)


def settle(folder: Path, *parts: BadImages) -> int:
    """Write the manifest of a run anew: all that any process or earlier start found, once, sorted.

    Args:
        folder: the run's folder; the manifest is left out where there is nothing to say.
        *parts: what this process found.

    Returns:
        How many bad images there are.
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
    """Return the entries of a manifest, without a last line that was not finished."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    images = [BadImage(**json.loads(line)) for line in lines if line.endswith("}")]
    return {image.key: image for image in images}


def substitute(row: int, attempt: int, size: int) -> int:
    """Return the row that is tried in place of a bad one: a function of the row alone.

    Args:
        row: the bad row.
        attempt: how many were tried before, each bad, too.
        size: number of rows.
    """
    mask = 0xFFFFFFFF
    counter = (row & mask, row >> 32, zlib.crc32(b"substitute"), attempt)
    word = philox(tuple(np.array(value, np.uint64) for value in counter), (0, 0))[0]
    return (int(word) * size) >> 32

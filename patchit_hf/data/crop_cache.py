"""The cache of decoded crops: a file of pixels, a checksum of every crop, and a note.

The note is written last and says that the rest is whole. It has a hash of all pixels; the checksums
say which crop is damaged, and are compared when a crop is read for the first time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json, replacing, write_text
from patchit_hf.common.resources import ResourceError, free_bytes, writing
from patchit_hf.data.canvas import BadImageError
from patchit_hf.data.decoded import Decoded, checksums, decode_all, found_as_json, read_found
from patchit_hf.data.lazy import LazyCrops, load_row

logger = logging.getLogger(__name__)

SPREAD = 64  # crops that are compared with their checksums when a cache is opened
MARGIN = 10**9  # bytes that a cache leaves free on its disk


class _DamagedError(Exception):
    """A file of a cache is not the one that was written; the message says which and why."""


@dataclass(frozen=True)
class CropCache:
    """The cache of one data set, column and canvas.

    Attributes:
        note: the note's file; the other files lie beside it.
        shape: of the crops, ``[N, H, W, 3]``.
        crops: decodes them.
        main: whether this process speaks.
    """

    note: Path
    shape: tuple[int, ...]
    crops: LazyCrops
    main: bool = True

    @property
    def pixels(self) -> Path:
        """The crops, one after the other."""
        return self.note.with_suffix(".uint8")

    @property
    def sums(self) -> Path:
        """The checksums, as little-endian uint32."""
        return self.note.with_suffix(".crc32")

    @property
    def size(self) -> int:
        """Bytes of the pixels."""
        return int(np.prod(self.shape))

    def open(self, *, verify: bool = False) -> tuple[NDArray[np.uint8], Decoded] | None:
        """Return the mapped crops and what is known of them, decoding them where that is needed.

        Args:
            verify: whether to compare every crop of an existing cache with its checksum.

        Returns:
            None if there is no room for the cache, or it cannot be written; a line says so.
        """
        known = self._recalled(verify)
        if known is None:
            known = self._written()
        return (
            None if known is None else (np.memmap(self.pixels, np.uint8, "r", 0, self.shape), known)
        )

    def again(self, number: int) -> NDArray[np.uint8]:
        """Decode one crop anew; a bad image is black, as in the cache."""
        crops = self.crops
        try:
            return load_row(crops.rows, number, crops.canvas, crops.fit, crops.bad.name)
        except BadImageError:
            return np.zeros(self.shape[1:], np.uint8)

    def _mapped(self) -> NDArray[np.uint8]:
        return np.memmap(self.pixels, np.uint8, "r", 0, self.shape)

    def _recalled(self, verify: bool) -> Decoded | None:
        if not self.note.exists():
            return None
        try:
            return self._read(verify)
        except _DamagedError as error:
            if self.main:
                logger.warning(
                    "%s: the cache of decoded crops is damaged and made anew: %s",
                    self.crops.bad.name,
                    error,
                )
            return None

    def _read(self, verify: bool) -> Decoded:
        try:
            known = read_json(self.note)
            fingerprint, found = str(known["fingerprint"]), read_found(known["bad"])
            size = self.pixels.stat().st_size
        except (InputError, OSError, KeyError, TypeError, ValueError) as error:
            raise _DamagedError(one_line(error)) from error
        if size != self.size:
            raise _DamagedError(f"{self.pixels} has {size:,} bytes, not {self.size:,}")
        sums = self._read_sums(known.get("sums"))
        array = self._mapped()
        if sums is None or verify:
            measured, sums = checksums(array, self.crops.bad.name, shown=self.main)
            if measured != fingerprint:
                raise _DamagedError(f"{self.pixels} has other pixels than were written")
            with contextlib.suppress(ResourceError):  # a cache that may only be read
                self._write_sums(sums)
        else:
            count = len(array)
            for number in np.unique(np.linspace(0, count - 1, min(count, SPREAD)).astype(int)):
                if zlib.crc32(array[number].data) != sums[number]:
                    raise _DamagedError(f"{self.pixels}: crop {number} has other pixels")
        return Decoded(fingerprint, sums, found)

    def _read_sums(self, whole: int | None) -> NDArray[np.uint32] | None:
        """Return the checksums; None if there are none, or they are damaged themselves."""
        try:
            content = self.sums.read_bytes()
        except OSError:
            return None
        if len(content) != 4 * self.shape[0] or whole not in (None, zlib.crc32(content)):
            return None
        return np.frombuffer(content, "<u4").astype(np.uint32)

    def _written(self) -> Decoded | None:
        """Decode the crops into the cache, and return what is known of them."""
        name = self.crops.bad.name
        try:
            with writing(self.note.parent):
                self.note.parent.mkdir(parents=True, exist_ok=True)
            free = free_bytes(self.note.parent)
            if free < self.size + MARGIN:
                raise ResourceError(
                    f"{str(self.note.parent)!r}: no space is left for them; {free:,} bytes are "
                    f"free, {self.size + MARGIN:,} are needed"
                )
            return self._write()
        except ResourceError as error:
            if self.main:
                logger.warning(
                    "%s: decoded crops are not kept: %s; decoded on the fly", name, error
                )
            return None

    def _write(self) -> Decoded:
        """Write pixels, checksums and note under temporary names, and move them when complete.

        The whole file is allocated first, and written without mapping it: a disk that is full, or
        becomes full meanwhile, is an error and no SIGBUS.
        """
        pixels = self.pixels
        with replacing(pixels, shared=True, needed=self.size) as draft, draft.open("wb") as out:
            descriptor = out.fileno()
            with writing(pixels, self.size):
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, self.size)

            def put(start: int, chunk: NDArray[np.uint8]) -> None:
                at = start * (self.size // self.shape[0])
                with writing(pixels, self.size):
                    _write_at(descriptor, chunk.tobytes(), at)

            decoded = decode_all(self.crops, put, main=self.main)
        content = self._write_sums(decoded.sums)
        known = {
            "fingerprint": decoded.fingerprint,
            "shape": self.shape,
            "bad": found_as_json(decoded.found),
            "sums": zlib.crc32(content),
        }
        write_text(self.note, json.dumps(known), shared=True)
        return decoded

    def _write_sums(self, sums: NDArray[np.uint32]) -> bytes:
        content = sums.astype("<u4").tobytes()
        with replacing(self.sums, shared=True, needed=len(content)) as draft:
            draft.write_bytes(content)
        return content


@dataclass
class Guard:
    """Compares each crop with its checksum when it is read for the first time.

    A damaged crop is decoded again and written back.

    Attributes:
        cache: where the crops come from.
        sums: the checksums, uint32 ``[N]``.
    """

    cache: CropCache
    sums: NDArray[np.uint32]
    _seen: NDArray[np.bool_] = field(init=False)
    _told: bool = False

    def __post_init__(self) -> None:
        self._seen = np.zeros(len(self.sums), np.bool_)

    def check(self, numbers: NDArray[np.int64], crops: NDArray[np.uint8]) -> None:
        """Check crops that have just been read, and mend those that are damaged.

        Args:
            numbers: rows of the cache ``[B]``.
            crops: uint8 ``[B, H, W, 3]``.

        Raises:
            InputError: if a crop is damaged and its image has changed since.
        """
        for at in np.flatnonzero(~self._seen[numbers]):
            number = int(numbers[at])
            if zlib.crc32(crops[at].data) != self.sums[number]:
                crops[at] = self._mended(number)
        self._seen[numbers] = True

    def _mended(self, number: int) -> NDArray[np.uint8]:
        cache, crop = self.cache, self.cache.again(number)
        if zlib.crc32(crop.data) != self.sums[number]:
            raise InputError(
                f"{cache.pixels}: crop {number} is damaged, and its image is another one now; "
                f"delete {cache.note} to decode all crops again"
            )
        if not self._told:
            logger.warning(
                "%s: crop %d of the cache %s was damaged; it is decoded again, and so is any other "
                "damaged one",
                cache.crops.bad.name,
                number,
                cache.pixels,
            )
            self._told = True
        with contextlib.suppress(OSError), cache.pixels.open("r+b") as file:
            _write_at(file.fileno(), crop.tobytes(), number * crop.nbytes)
        return crop


def _write_at(descriptor: int, content: bytes, at: int) -> None:
    """Write all bytes at a place of a file; several threads may do so at a time."""
    view = memoryview(content)
    while view:
        done = os.pwrite(descriptor, view, at)
        view, at = view[done:], at + done

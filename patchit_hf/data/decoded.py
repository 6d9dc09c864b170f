"""All crops of a data set decoded at once, with a hash of them and the checksum of each."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchit_hf.common.progress import Progress
from patchit_hf.data.bad import BadImage
from patchit_hf.data.canvas import BadImageError
from patchit_hf.data.lazy import LazyCrops, bad_image, load_row

CHUNK = 64  # crops that are decoded at a time, and hashed together
Found = dict[int, BadImage]  # bad images by row
Put = Callable[[int, NDArray[np.uint8]], None]


@dataclass(frozen=True)
class Decoded:
    """What decoding all crops has shown.

    Attributes:
        fingerprint: hash of all pixels.
        sums: CRC-32 of each crop, uint32 ``[N]``.
        found: the bad images; their crops are black.
    """

    fingerprint: str
    sums: NDArray[np.uint32]
    found: Found


def decode_all(crops: LazyCrops, put: Put, *, main: bool) -> Decoded:
    """Decode every crop; a bad one is black.

    Args:
        crops: the images.
        put: called with the first row of a chunk, and its crops uint8 ``[B, H, W, 3]``.
        main: whether this process shows progress.

    Raises:
        InputError: for a bad image, if the policy is ``raise``.
    """
    count, bad = len(crops.rows), crops.bad
    sums, total, found = np.zeros(count, np.uint32), hashlib.blake2b(digest_size=16), Found()

    def decode(start: int) -> tuple[bytes, Found]:
        chunk = np.zeros((min(CHUNK, count - start), *crops.canvas, 3), np.uint8)
        damaged: Found = {}
        for at in range(len(chunk)):
            row = start + at
            try:
                chunk[at] = load_row(crops.rows, row, crops.canvas, crops.fit, bad.name)
            except BadImageError as error:
                damaged[row] = bad_image(crops.rows, row, error, bad.part, "left out")
            sums[row] = zlib.crc32(chunk[at])
        put(start, chunk)
        return _digest(chunk), damaged

    starts = range(0, count, CHUNK)
    bar = Progress(f"decoding {bad.name}", count, "crops", shown=main)
    with ThreadPoolExecutor(max(1, crops.workers)) as pool, bar:
        futures = [pool.submit(decode, start) for start in starts]
        try:
            for start, future in zip(starts, futures, strict=True):
                digest, damaged = future.result()
                if damaged and bad.policy == "raise":
                    bad.add(next(iter(damaged.values())))
                total.update(digest)
                found |= damaged
                bar.update(min(CHUNK, count - start))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Decoded(total.hexdigest(), sums, found)


def checksums(
    array: NDArray[np.uint8], name: str = "crops", *, shown: bool = False
) -> tuple[str, NDArray[np.uint32]]:
    """Return the hash of all crops, and the checksum of each.

    Args:
        array: uint8 ``[N, H, W, 3]``.
        name: name of the data in the progress bar.
        shown: whether to show it.
    """
    sums, total = np.zeros(len(array), np.uint32), hashlib.blake2b(digest_size=16)
    with Progress(f"checking {name}", len(array), "crops", shown=shown) as bar:
        for start in range(0, len(array), CHUNK):
            chunk = np.asarray(array[start : start + CHUNK])
            sums[start : start + len(chunk)] = [zlib.crc32(crop) for crop in chunk]
            total.update(_digest(chunk))
            bar.update(len(chunk))
    return total.hexdigest(), sums


def found_as_json(found: Found) -> list[Any]:
    """Return bad images by row as JSON values; see ``read_found``."""
    return [[row, asdict(image)] for row, image in found.items()]


def read_found(known: list[Any]) -> Found:
    """Return what ``found_as_json`` returned."""
    return {int(row): BadImage(**image) for row, image in known}


def _digest(chunk: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(chunk.tobytes(), digest_size=16).digest()

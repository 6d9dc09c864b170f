"""Xet without its service: the client keeps its chunks in a folder, and this reads them there.

`hf_xet` takes a `local://` address of the content store from whoever issues its tokens, and then
writes what it would send (https://huggingface.co/docs/xet: shards say which chunks a file is made
of, xorbs hold them) into that folder. So uploads and downloads go through the real client, and the
Hub finds a file's content by its sha256, as with LFS. Chunks must not be compressed: `CLIENT`.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

CLIENT = {"HF_HUB_DISABLE_XET": "0", "HF_XET_XORB_COMPRESSION_POLICY": "none"}
"""The environment of a client that uses Xet."""

_ENTRY = 48  # bytes of each entry of a shard
_END = b"\xff" * 32


def token(store: Path) -> dict[str, str]:
    """The headers that tell a client where the content store is."""
    return {
        "X-Xet-Cas-Url": f"local://{store}",
        "X-Xet-Access-Token": "token",
        "X-Xet-Token-Expiration": str(int(time.time()) + 3600),
    }


def find(store: Path, sha256: str) -> tuple[str, bytes] | None:
    """A file's Xet hash and content, if the store has it whole."""
    for shard in sorted(store.rglob("shards/*.mdb")):
        for found, xet_hash, parts in _files(shard.read_bytes()):
            if found == sha256:
                return xet_hash, b"".join(_chunks(store, *part) for part in parts)
    return None


def _files(shard: bytes) -> Iterator[tuple[str, str, list[tuple[str, int, int]]]]:
    """A shard's files: sha256, Xet hash, and the parts, each as xorb, first chunk and end."""
    position = _ENTRY  # behind the header
    while (name := shard[position : position + 32]) != _END:
        flags, count = struct.unpack_from("<II", shard, position + 32)
        position += _ENTRY
        parts = []
        for _ in range(count):
            first, end = struct.unpack_from("<II", shard, position + 40)
            parts.append((_hex(shard[position : position + 32]), first, end))
            position += _ENTRY
        position += _ENTRY * count if flags >> 31 & 1 else 0  # what verifies the parts
        if flags >> 30 & 1:
            yield _hex(shard[position : position + 32]), _hex(name), parts
            position += _ENTRY


def _chunks(store: Path, xorb: str, first: int, end: int) -> bytes:
    data, position, found = next(store.rglob(f"default.{xorb}")).read_bytes(), 0, []
    for _ in range(end):
        size = int.from_bytes(data[position + 1 : position + 4], "little")
        if data[position + 4] != 0:
            raise ValueError("this chunk is compressed: the client has to run with xet.CLIENT")
        found.append(data[position + 8 : position + 8 + size])
        position += 8 + size
    return b"".join(found[first:])


def _hex(name: bytes) -> str:
    """A hash as Xet writes it: four numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", name))

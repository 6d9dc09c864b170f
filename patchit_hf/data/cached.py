"""Paths of this package's cache files, in the cache folder of ``datasets``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import datasets

from patchit_hf.common.files import remove_abandoned


def cache_path(name: str, key: str) -> Path:
    """Return the path of a cached file or folder; its parent folder may not exist yet.

    Args:
        name: name of the file, with ``{}`` for the hash of the key.
        key: everything that the content depends on: versions, fingerprints, options.
    """
    word = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
    return _folder() / name.format(word)


def tidy() -> None:
    """Remove the drafts of cache files that no living process owns."""
    remove_abandoned(_folder())


def _folder() -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE) / "patchit_hf"

"""Where what was made of a data set is kept: in the cache folder of ``datasets``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import datasets


def cache_path(name: str, key: str) -> Path:
    """Return the file or folder for what a key stands for; its folder need not be there yet.

    Args:
        name: of the file, with ``{}`` where the hash of the key goes.
        key: what tells it from others: versions, fingerprints, options.
    """
    word = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "patchit_hf" / name.format(word)

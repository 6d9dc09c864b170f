"""State of a data set that ``datasets`` keeps under private names, each with a fallback.

A new version of ``datasets`` may drop these names; ``tests/test_private_names.py`` notices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from datasets.fingerprint import generate_fingerprint
from numpy.typing import NDArray

from patchit_hf.common.errors import reading

FINGERPRINT, INDICES = "_fingerprint", "_indices"  # of datasets.Dataset
FEATURES = "_resolve_features"  # of datasets.IterableDataset


def dataset_fingerprint(dataset: datasets.Dataset) -> str:
    """Return a string that identifies the state of a data set.

    Falls back from ``Dataset._fingerprint`` to the hash that ``datasets`` computes of the content.
    """
    known = getattr(dataset, FINGERPRINT, None)
    return str(known or generate_fingerprint(dataset))


def row_order(dataset: datasets.Dataset) -> NDArray[np.int64] | None:
    """Return for each row of a selection its row in the underlying table.

    Returns:
        The row numbers ``[N]``; None if the data set is the whole table in order.

    Raises:
        AttributeError: without ``Dataset._indices``; ``datasets`` then has to read the rows itself.
    """
    indices = getattr(dataset, INDICES)
    if indices is None:
        return None
    order: NDArray[np.int64] = indices.column(0).to_numpy()
    return order


def stream_features(dataset: datasets.IterableDataset) -> Any:
    """Return the features of a stream, inferred from its first examples if it states none.

    Without ``IterableDataset._resolve_features``, they are inferred from the first example.
    """
    if dataset.features:
        return dataset.features
    resolve = getattr(dataset, FEATURES, None)
    with reading("the stream"):
        if resolve is not None:
            return resolve().features
        return datasets.Dataset.from_list(list(dataset.take(1))).features


def examples(stream: datasets.IterableDataset, name: str) -> Iterator[dict[str, Any]]:
    """Yield the examples of a stream; see ``reading``."""
    waiting = iter(stream)
    while True:
        with reading(name):
            example = next(waiting, None)
        if example is None:
            return
        yield example

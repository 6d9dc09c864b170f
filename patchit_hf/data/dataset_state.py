"""What ``datasets`` keeps of a data set under private names, and what stands in for it.

The names may vanish with any new version of it; ``tests/test_private_names.py`` notices.
"""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
from datasets.fingerprint import generate_fingerprint
from numpy.typing import NDArray

FINGERPRINT, INDICES = "_fingerprint", "_indices"  # of datasets.Dataset
FEATURES = "_resolve_features"  # of datasets.IterableDataset


def dataset_fingerprint(dataset: datasets.Dataset) -> str:
    """Return what tells the state of a data set from others.

    Without ``Dataset._fingerprint``, the hash that ``datasets`` makes of a data set's contents.
    """
    known = getattr(dataset, FINGERPRINT, None)
    return str(known or generate_fingerprint(dataset))


def row_order(dataset: datasets.Dataset) -> NDArray[np.int64] | None:
    """Return the rows of the table that the rows of a selection stand for, ``[N]``.

    Returns:
        The row numbers; None where the data set is the whole table, in order.

    Raises:
        AttributeError: without ``Dataset._indices``. ``datasets`` has then to read its rows itself.
    """
    indices = getattr(dataset, INDICES)
    if indices is None:
        return None
    order: NDArray[np.int64] = indices.column(0).to_numpy()
    return order


def stream_features(dataset: datasets.IterableDataset) -> Any:
    """Return the features of a stream, from its first example where it does not say them.

    Without ``IterableDataset._resolve_features``, those of a data set of its first example.
    """
    if dataset.features:
        return dataset.features
    resolve = getattr(dataset, FEATURES, None)
    if resolve is not None:
        return resolve().features
    return datasets.Dataset.from_list(list(dataset.take(1))).features

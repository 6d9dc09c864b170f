"""Metrics for finetuned networks: pure functions on CPU tensors, without state.

``attributes`` and ``classification`` are for labels, ``retrieval`` for re-identification,
``keypoints`` for pose, ``bootstrap`` for confidence intervals. A metric that cannot be computed,
for example because a class is absent, is ``None`` in a table and missing from a summary. It is
never NaN and never a made-up number.
"""

from patchit_hf.metrics.attributes import binary_attributes, class_attributes
from patchit_hf.metrics.bootstrap import bootstrap
from patchit_hf.metrics.classification import classification
from patchit_hf.metrics.keypoints import (
    head_length,
    oks,
    oks_ap,
    pck_hits,
    pck_summary,
    torso_length,
)
from patchit_hf.metrics.ranking import average_precision, eleven_point_ap
from patchit_hf.metrics.retrieval import Embeddings, Retrieval, retrieve

__all__ = [
    "Embeddings",
    "Retrieval",
    "average_precision",
    "binary_attributes",
    "bootstrap",
    "class_attributes",
    "classification",
    "eleven_point_ap",
    "head_length",
    "oks",
    "oks_ap",
    "pck_hits",
    "pck_summary",
    "retrieve",
    "torso_length",
]

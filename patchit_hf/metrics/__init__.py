"""What a finetuned network is worth: pure functions on CPU tensors, without state.

``attributes`` and ``classification`` are for labels, ``retrieval`` for re-identification,
``keypoints`` for pose, ``bootstrap`` for how far a figure can be trusted. A figure that cannot be
computed, of a class that is absent, say, is ``None`` in a table and missing in a summary: it is
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

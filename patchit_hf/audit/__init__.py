"""Shortcut audit: what do classifiers that see no person make of the same patches?

Four classifiers look at nothing but the mean colour, the colour histogram, the edge energy or the
border pixels of a patch. A network that is hardly better than they are has learnt no more than
they have, and a place that they recognise nearly always is marked by something that is no person:
a frame, padding, a time stamp. ``python -m patchit_hf.audit`` asks them before a training.

``cues`` is what they see, ``measure`` what they reach, ``remedies`` which option takes it away,
``verdict`` the whole.
"""

from patchit_hf.audit.verdict import Audit, audit, report

__all__ = ["Audit", "audit", "report"]

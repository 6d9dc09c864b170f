"""Shortcut audit: how far do classifiers get on the same patches without seeing a person?

Four classifiers each see only the mean colour, the colour histogram, the edge energy or the border
pixels of a patch. A network that is hardly better than they are has learnt little more than they
have. A cell that they recognise nearly always is marked by something other than a person: a frame,
padding, a time stamp. ``python -m patchit_hf.audit`` runs the audit before any training.

``cues`` computes what the classifiers see, ``measure`` how well they do, ``remedies`` which option
removes a shortcut, ``verdict`` puts it all together.
"""

from patchit_hf.audit.verdict import Audit, audit, report

__all__ = ["Audit", "audit", "report"]

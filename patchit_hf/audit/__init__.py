"""Shortcut audit: how far do classifiers get on the same patches without seeing a person?

Four classifiers each see only the mean colour, the colour histogram, the edge energy or the border
pixels of a patch. A network that is hardly better than they are has learnt little more than they
have. A cell that they recognise nearly always is marked by something other than a person: a frame,
padding, a time stamp. ``patchit audit`` runs the audit before any training.

``cues`` computes what the classifiers see, ``measure`` how well they do, ``remedies`` which option
removes a shortcut, ``verdict`` puts it all together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.audit.arguments import AuditArguments as AuditArguments
    from patchit_hf.audit.command import main as main
    from patchit_hf.audit.command import run as run
    from patchit_hf.audit.verdict import Audit as Audit
    from patchit_hf.audit.verdict import audit as audit
    from patchit_hf.audit.verdict import report as report

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Audit": "patchit_hf.audit.verdict",
        "AuditArguments": "patchit_hf.audit.arguments",
        "audit": "patchit_hf.audit.verdict",
        "main": "patchit_hf.audit.command",
        "report": "patchit_hf.audit.verdict",
        "run": "patchit_hf.audit.command",
    },
)

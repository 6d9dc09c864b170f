"""How the threads of a computation wait for each other, set before torch is imported.

Torch's wheels for Linux compute with libgomp. A thread that has done its part of a layer spins
there until the others have done theirs, 300,000 times before it sleeps. Beside a busy program that
is most of the time: the thread that is waited for has no core, because another one spins on it.
Intel's runtime spins, too, but lets others go first; it is left as it is.
"""

from __future__ import annotations

import os
import sys

SPINS = "4000"  # as fast on quiet cores as the default; see benchmarks/busy_cores.py
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # either one is the user's own choice


def wait_briefly() -> None:
    """Let threads spin briefly before they sleep, unless the user has chosen, or torch is there.

    Libgomp reads its environment once, when it is loaded with torch. Processes that this one starts
    inherit it.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = SPINS

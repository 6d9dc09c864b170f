"""What a fault of ``faults.py`` is, and the runs that its end is compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.kill import FINETUNE, PRETRAIN

Provoke = Callable[[Any, contextlib.ExitStack], None]
SHORT = "--max-steps 6 --batch-size 16 --save-every 2 --save-limit 3 --eval-every 3".split()
LONG = "--max-steps 40 --batch-size 16 --save-every 1000 --eval-every 0 --log-every 1".split()
BARE = "--max-steps 6 --batch-size 16 --save-every 0 --eval-every 1".split()
LARGE = [  # 64 px inputs, 256 at a time
    *"pretrain --backbone test_resnet --canvas 50x25 --no-figures --no-audit --workers 0".split(),
    *"--max-steps 2 --batch-size 256 --save-every 1 --eval-every 0".split(),
    *"--task-kwargs rows=3 cols=2 patch_size=8 input_scale=8".split(),
]
REFERENCES = {
    "whole": [*PRETRAIN, *SHORT],
    "long": [*PRETRAIN, *LONG],
    "bare": [*PRETRAIN, *BARE],
    "finetuned": [*FINETUNE, *LONG],
    "large": LARGE,
}


@dataclass(frozen=True)
class Case:
    """A fault.

    Attributes:
        group: what it is about.
        name: what goes wrong.
        provoke: makes a run with this fault, and starts its command.
        code: the exit code that the start has to have; None for any.
        mend: takes the fault away; None if that is not needed.
        reference: the uninterrupted run that the end is compared with.
    """

    group: str
    name: str
    provoke: Provoke
    code: int | None = 0
    mend: Callable[[Any], None] | None = None
    reference: str = "whole"

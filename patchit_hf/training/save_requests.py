"""What asks a run for a checkpoint between two steps: a signal, or the time since the last one."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from patchit_hf.common.interrupts import StopRequest

FIRST_MINUTES = 2.0  # of a run, after which it has a checkpoint


class SaveRequests:
    """Says after each step whether a signal or the clock asks for a checkpoint.

    Args:
        accelerator: the processes, which get the same answer.
        minutes: between checkpoints; 0 to not ask for any by time.
        seconds: that the run has taken so far.

    Attributes:
        signal: notes a signal while it is entered as a context.
    """

    def __init__(self, accelerator: Accelerator, minutes: float, seconds: float) -> None:
        self.accelerator, self.minutes = accelerator, minutes
        self.signal = StopRequest()
        self._saved, self._first = seconds, True

    def agreed(self, done: int, seconds: float) -> tuple[int | None, bool]:
        """Return the signal that asks the run to stop, and whether a checkpoint is due by time.

        On accelerators it is asked for every tenth step, because the answer waits for the device.

        Args:
            done: number of steps.
            seconds: that the run has taken so far.
        """
        accelerator, waited = self.accelerator, seconds - self._saved
        limit = min(self.minutes, FIRST_MINUTES) if self._first else self.minutes
        by_time = accelerator.is_main_process and 0 < limit * 60 <= waited
        asked = [self.signal.number or 0, int(by_time)]
        if accelerator.num_processes > 1:
            device = accelerator.device
            if device.type != "cpu" and done % 10:
                return None, False
            asked = accelerator.gather(torch.tensor([asked], device=device)).amax(0).tolist()
        return asked[0] or None, bool(asked[1])

    def saved(self, seconds: float) -> None:
        """See that a checkpoint has been written, so many seconds into the run."""
        self._saved, self._first = seconds, False

"""The progress bar of a run, and where its time goes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from tqdm.auto import tqdm


class Progress:
    """A progress bar on stderr.

    Args:
        title: what it is called.
        unit: what it counts.
        max_steps: steps of the run.
        start: steps done before.
        batch: units of a step.
        shown: whether this process shows it.
    """

    def __init__(
        self, title: str, unit: str, max_steps: int, start: int, batch: int, *, shown: bool
    ) -> None:
        self.batch, self.done, self.shown = batch, start, shown
        self.bar = tqdm(
            total=max_steps * batch,
            initial=start * batch,
            unit=f" {unit}",
            unit_scale=True,
            desc=title,
            disable=not shown,
            smoothing=0.1,
            mininterval=0.5 if sys.stderr.isatty() else 20,
            dynamic_ncols=sys.stderr.isatty(),
        )

    def update(self, done: int, postfix: str) -> None:
        """Advance to ``done`` steps."""
        self.bar.set_postfix_str(postfix, refresh=False)
        self.bar.update((done - self.done) * self.batch)
        self.done = done

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        if self.shown:
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()


@dataclass
class Clock:
    """Where the time of a run goes, in seconds of this process.

    Attributes:
        training: in steps, waiting included.
        waiting: for crops to be read, moved and cut.
        samples: samples of these steps.
        steps: seconds of each step since the start, the newest ones.
    """

    training: float = 0.0
    waiting: float = 0.0
    samples: int = 0
    steps: list[float] = field(default_factory=list)

    def step(self, seconds: float, samples: int) -> None:
        """Count a step."""
        self.training += seconds
        self.samples += samples
        self.steps = [*self.steps[-63:], seconds]

    def result(self) -> dict[str, float]:
        """Return throughput and the share of the time that went into data, and start again."""
        values = {}
        if self.samples:
            values = {
                "samples_per_second": round(self.samples / max(self.training, 1e-9), 1),
                "data_share": round(self.waiting / max(self.training, 1e-9), 4),
            }
        self.training, self.waiting, self.samples = 0.0, 0.0, 0
        return values

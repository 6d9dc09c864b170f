"""Where the time of a run goes."""

from __future__ import annotations

from dataclasses import dataclass, field


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

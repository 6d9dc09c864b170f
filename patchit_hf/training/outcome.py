"""What a run leaves: for its record, its figures and its model card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patchit_hf.common.provenance import command
from patchit_hf.data.bad import BadImages, settle


@dataclass(frozen=True)
class RunOutcome:
    """A training that has ended, in values.

    Attributes:
        folder: the run's folder.
        config: what decides the trained weights.
        data: what the record says about the data.
        bad: the bad images of each part of the data.
        steps: optimiser steps done.
        samples: samples of a step.
        seconds: time spent, over all starts.
        stopped: why the run stopped before its end; None if it did not.
        hardware: where it ran, in words.
        processes: number of processes.
        mixed_precision: precision as Accelerate names it.
        compiled: by which backend Accelerate compiled the network; None if it did not.
        results: what was measured of the weights that are kept.
        history: the lines of ``metrics.jsonl``.
        notes: JSON values that checkpoints carry along.
    """

    folder: Path
    config: dict[str, Any]
    data: dict[str, Any]
    bad: tuple[BadImages, ...]
    steps: int
    samples: int
    seconds: float
    stopped: str | None
    hardware: str
    processes: int
    mixed_precision: str
    results: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    compiled: str | None = None

    def record(self) -> dict[str, Any]:
        """Return command, configuration, data, training and results as JSON values.

        The list of bad images in the run's folder is brought up to date.
        """
        return {
            "command": command(),
            "config": self.config,
            "data": {**self.data, "bad_images": settle(self.folder, *self.bad)},
            "training": {
                "steps": self.steps,
                "seconds": round(self.seconds, 1),
                "stopped": self.stopped,
                "hardware": self.hardware,
                "processes": self.processes,
                "mixed_precision": self.mixed_precision,
                "compiled": self.compiled,
                "changes": self.notes.get("changes", []),
            },
            "results": self.results,
        }

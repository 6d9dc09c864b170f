"""What a user sees while a run trains: one bar, and a line per evaluation."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm


class Progress:
    """A progress bar on stderr: accuracy against chance, patches a second, time left.

    Args:
        max_steps: steps of the run.
        start: steps done before.
        batch: samples a step.
        chance: accuracy of guessing.
        inputs: pictures a sample.
        shown: whether this process shows it.
    """

    def __init__(
        self, max_steps: int, start: int, batch: int, chance: float, inputs: int, *, shown: bool
    ) -> None:
        batch *= inputs
        self.batch, self.chance, self.done = batch, chance, start
        self.shown = shown
        self.bar = tqdm(
            total=max_steps * batch,
            initial=start * batch,
            unit=" patches",
            unit_scale=True,
            desc="training",
            disable=not shown,
            smoothing=0.1,
            mininterval=0.5 if sys.stderr.isatty() else 20,
            dynamic_ncols=sys.stderr.isatty(),
        )

    def update(self, done: int, values: dict[str, float]) -> None:
        """Advance to ``done`` steps."""
        if "accuracy" in values:
            self.bar.set_postfix_str(
                f"accuracy {values['accuracy']:.1%} (chance {self.chance:.1%})", refresh=False
            )
        self.bar.update((done - self.done) * self.batch)
        self.done = done

    def evaluated(self, entry: dict[str, Any]) -> None:
        """Write the lines of an evaluation."""
        if "eval_accuracy" not in entry:
            return
        line = (
            f"step {entry['step']}: held-out accuracy {entry['eval_accuracy']:.1%} "
            f"({entry['eval_accuracy'] / self.chance:.1f} x chance), loss {entry['eval_loss']:.3f}"
        )
        if "eval_error_distance" in entry:
            line += f", error {entry['eval_error_distance']:.2f} cells"
        if "eval_feature_rank" in entry:
            line += f", feature rank {entry['eval_feature_rank']:.0f}"
        if "data_share" in entry:
            line += f", {entry['data_share']:.0%} of the time waiting for data"
        if "probe_knn" in entry:
            line += f"; probe: kNN {entry['probe_knn']:.1%}, linear {entry['probe_linear']:.1%}"
        self.say(line)

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        if self.shown:
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()

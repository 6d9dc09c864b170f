"""What finetuning says of itself while it trains."""

from __future__ import annotations

from typing import Any

from patchit_hf.metrics.names import short_name
from patchit_hf.training.monitor import Reporter


class FinetuneReporter(Reporter):
    """The metrics on the validation crops, and the one that the best weights are chosen by.

    Args:
        metric: that metric's key.
    """

    title = "finetuning"

    def __init__(self, metric: str) -> None:
        self.metric, self.metric_name = f"eval_{metric}", short_name(metric)

    def line(self, entry: dict[str, Any]) -> str | None:
        """Return the line about an evaluation."""
        values = {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}
        if not values:
            return None
        chosen = self.metric.removeprefix("eval_")  # first, because the best weights are kept by it
        order = sorted(values, key=lambda key: key != chosen)[:4]
        shown = ", ".join(f"{short_name(key)} {values[key]:.1%}" for key in order)
        return f"step {entry['step']}: validation {shown}"

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
        shown = ", ".join(f"{short_name(k)} {v:.1%}" for k, v in list(values.items())[:4])
        return f"step {entry['step']}: validation {shown}"

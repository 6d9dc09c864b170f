"""What a finetuning tells while it trains, and which weights are the best."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from patchit_hf.common.layout import METRICS_FILE
from patchit_hf.metrics.names import short_name
from patchit_hf.training.accelerator import start_tracker
from patchit_hf.training.loop import Means
from patchit_hf.training.run_folder import History

if TYPE_CHECKING:
    from patchit_hf.finetune.trainer import Finetuner


class Follower:
    """Follows a finetuning from a step on.

    Args:
        finetuner: what is followed.
        start: steps done before.

    Attributes:
        stopped: why the run stopped before its end, None if it did not.
    """

    def __init__(self, finetuner: Finetuner, start: int) -> None:
        self.args, self.accelerator = finetuner.args, finetuner.accelerator
        self.primary = finetuner.task.primary_metric
        self.main = finetuner.is_main
        self.history = History(finetuner.run.path / METRICS_FILE, self.main, start)
        self.before, self.started = finetuner.seconds, time.perf_counter()
        self.done, self.means = start, Means()
        self.batch = finetuner.share.batch
        self.bar = tqdm(
            total=finetuner.max_steps * self.batch,
            initial=start * self.batch,
            unit=" crops",
            unit_scale=True,
            desc="finetuning",
            disable=not self.main,
            mininterval=0.5 if sys.stderr.isatty() else 20,
            dynamic_ncols=sys.stderr.isatty(),
        )
        start_tracker(self.accelerator, self.args.report_to, finetuner.run.config)
        self.stopped = self._reason()

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, those before a resume included."""
        return self.before + time.perf_counter() - self.started

    def step(self, done: int, means: Means, *, look: bool) -> None:
        """Count a step; every now and then say how it goes.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        self.means.merge(means)
        if not look:
            return
        values = self.means.result(self.accelerator)
        if not math.isfinite(values["loss"]):
            self.bar.close()
            raise FloatingPointError(
                f"step {done}: the loss is {values['loss']}; take a smaller --learning-rate, or "
                "--mixed-precision bf16 instead of fp16"
            )
        self.train_loss = values["loss"]
        self.bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)
        self.bar.update((done - self.done) * self.batch)
        self.done = done

    def flush(self) -> None:
        """Start the mean of the loss again, as a run that goes on from here will."""
        self.means = Means()

    def record(self, figures: dict[str, float]) -> bool:
        """Write an evaluation down and return whether it is the best so far."""
        best = max((e.get(self._key, -math.inf) for e in self.history.entries), default=-math.inf)
        entry = {
            "step": self.done,
            "loss": round(self.train_loss, 6),
            **{f"eval_{name}": round(value, 6) for name, value in figures.items()},
        }
        self.history.add(entry)
        if self.accelerator.trackers:
            self.accelerator.log({k: v for k, v in entry.items() if k != "step"}, step=self.done)
        if self.main and figures:
            shown = ", ".join(f"{short_name(k)} {v:.1%}" for k, v in list(figures.items())[:4])
            self.bar.write(f"step {self.done}: validation {shown}", file=sys.stderr)
        self.stopped = self._reason()
        return bool(figures) and entry.get(self._key, -math.inf) > best

    @property
    def _key(self) -> str:
        return f"eval_{self.primary}"

    def results(self) -> dict[str, Any]:
        """Return the evaluation of the weights that are kept."""
        entries = self.history.entries
        if not entries:
            return {}
        kept = entries[-1]
        if self.args.load_best_model_at_end:
            kept = max(entries, key=lambda e: e.get(self._key, -math.inf))
        return dict(kept)

    def _reason(self) -> str | None:
        """Return why to stop, if there is a reason."""
        patience = self.args.early_stopping_patience
        values = [e[self._key] for e in self.history.entries if self._key in e]
        if not patience or len(values) <= patience:
            return None
        best, since = -math.inf, 0
        for value in values:
            if value > best + self.args.early_stopping_threshold:
                best, since = value, 0
            else:
                since += 1
        if since < patience:
            return None
        return f"no better {short_name(self.primary)} than {best:.1%} in {since} evaluations"

    def close(self) -> None:
        """Leave the bar as it is and end the trackers."""
        self.bar.close()
        for tracker in self.accelerator.trackers:
            tracker.finish()

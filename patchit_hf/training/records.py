"""What a trainer does after a step: it evaluates, tells callbacks, and saves checkpoints."""

from __future__ import annotations

from typing import Any

from patchit_hf.common.layout import CHECKPOINTS
from patchit_hf.training.arguments import in_steps
from patchit_hf.training.callbacks import Callbacks
from patchit_hf.training.checkpoint import save_checkpoint
from patchit_hf.training.loop import due
from patchit_hf.training.monitor import Monitor
from patchit_hf.training.result_weights import ResultWeights
from patchit_hf.training.resume import Resumes
from patchit_hf.training.save_requests import SaveRequests


class Records(Resumes):
    """The part of a trainer that evaluates, records and saves."""

    callbacks: Callbacks
    requests: SaveRequests
    weights: ResultWeights

    def _due(self, done: int, every: float) -> bool:
        """Whether what is done every so many steps, or shares of the run, is due now."""
        return due(done, in_steps(every, self.max_steps))

    def _running(self) -> Monitor:
        if self.monitor is None:
            raise RuntimeError("there is no run; call train()")
        return self.monitor

    def _is_last(self) -> bool:
        """Whether no step follows: the run is at its end, or a callback asked for it."""
        monitor = self._running()
        return monitor.done == self.max_steps or monitor.asked is not None

    def _evaluate_and_record(self) -> None:
        """Evaluate the weights that the run would export now, and record what came of it."""
        monitor = self._running()
        with self.weights.shown(last=self._is_last()):
            self._check_weights()
            values = self._evaluated()
            self._check_folder()
            if self._also_evaluates(monitor.done):
                values |= self._also_evaluated()
            monitor.record(values)
            self._after_evaluation()
            self._tell("on_evaluate", monitor.done, dict(monitor.history.last))

    def _tell(self, method: str, done: int, *values: Any) -> None:
        """Tell the callbacks, which may ask the run to end."""
        told = self.callbacks.agreed(method, self.world, self, done, *values)
        if done < self.max_steps:
            self._stop(told, method)

    def _stop(self, reason: str | None, method: str) -> None:
        """End the run after this step if there is a reason."""
        monitor = self._running()
        monitor.asked = monitor.asked or reason

    def _check_weights(self) -> None:
        """Check that the weights are numbers, before they are evaluated, saved or exported.

        Raises:
            FloatingPointError: if they are not.
        """
        running = ("running_mean", "running_var")
        values = [b for name, b in self.model.named_buffers() if name.endswith(running)]
        if not all(bool(v.isfinite().all()) for v in (*self.model.parameters(), *values)):
            raise self._running().diverged("the weights are not finite")

    def _see_trained(self) -> None:
        """Let ``model`` have the weights that are trained, if it has others beside them."""
        if self.sharded is not None:
            self.sharded.gather()

    def _check_folder(self) -> None:
        if self.is_main:
            self.run.check_there()

    def _save(self, done: int) -> None:
        monitor, optimizer = self._running(), self.optimizer
        if self.sharded is not None:
            optimizer = self.sharded.snapshot()
        self._check_weights()
        means = monitor.since_record.state(self.accelerator)
        self._check_folder()
        if self.is_main:
            saved = save_checkpoint(
                self.run.path / CHECKPOINTS,
                done,
                self._config_with_data(),
                self.model,
                optimizer,
                self.accelerator.scaler,
                {**self.notes, **self._noted(), "seconds": monitor.seconds, "means": means},
                self.args.save_total_limit,
            )
            self._write_contents()
            self._after_save(done)
            self.callbacks.tell("on_save", self, done, saved)
        self.requests.saved(monitor.seconds)
        self.accelerator.wait_for_everyone()

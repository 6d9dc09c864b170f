"""The weights that a run evaluates and exports, where these are not simply those of the last step.

They may be a moving average, and a share of the initial weights may be mixed in. Checkpoints hold
the weights of their step, so that a run that continues is not changed by this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.pretrain.ema import PART, MovingAverage
from patchit_hf.pretrain.keep import Initial


class ResultWeights:
    """Turns the weights of a step into those that are exported, and back.

    Args:
        model: the model, with its initial weights; a moving average becomes a part of it.
        args: ``ema`` and ``keep_initial`` decide.
        accelerator: the accelerator.
        without: names of parameters that are not averaged.
        inputs: returns the first inputs of the training, float32 ``[B, 3, h, w]``, on which batch
            statistics are estimated; only called on the main process.
    """

    def __init__(
        self,
        model: PatchTaskModel,
        args: TrainingArguments,
        accelerator: Accelerator,
        without: Collection[str],
        inputs: Callable[[], Iterable[Tensor]],
    ) -> None:
        self.model, self.accelerator, self.inputs = model, accelerator, inputs
        self.share = args.keep_initial
        self.initial = Initial(model.backbone) if args.keep_initial else None
        self.average = MovingAverage(model, args.ema, without) if args.ema else None
        if hasattr(model, PART):  # that of a run before
            delattr(model, PART)
        if self.average is not None:
            model.add_module(PART, self.average)

    def update(self, step: int) -> None:
        """Take the weights after a step into the moving average."""
        if self.average is not None:
            self.average.update(self.model, step)

    @contextmanager
    def shown(self, *, last: bool) -> Iterator[None]:
        """Let the model have the weights that the run would export now.

        Args:
            last: whether the last step is done; initial weights are mixed in only then.
        """
        if self.average is None and not (self.initial is not None and last):
            yield
            return
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.finish(last=last)
        try:
            yield
        finally:
            self.model.load_state_dict(before)

    def finish(self, *, last: bool) -> None:
        """Set the model's weights to those that are exported, alike on all processes."""
        if self.average is not None:
            self.average.copy_into(self.model)
        if self.initial is None or not last:
            return
        backbone = self.model.backbone
        if self.accelerator.is_main_process:
            self.initial.mix_into(backbone, self.share, self.inputs(), self.model.frozen)
        if self.accelerator.num_processes > 1:
            for value in (*backbone.parameters(), *backbone.buffers()):
                broadcast(value.data)

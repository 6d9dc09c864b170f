"""The weights that a pretraining exports: a share of the initial ones may be mixed in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.pretrain.arguments import TrainingArguments
from patchit_hf.pretrain.keep import Initial
from patchit_hf.training.result_weights import ResultWeights


class MixedWeights(ResultWeights):
    """Result weights with a share of the initial ones, from the last step on.

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
        super().__init__(model, args.ema, without)
        self.network, self.accelerator, self.inputs = model, accelerator, inputs
        self.share = args.keep_initial
        self.initial = Initial(model.backbone) if args.keep_initial else None

    def differ(self, *, last: bool) -> bool:
        """Whether the weights that are exported differ from those of the step."""
        return super().differ(last=last) or (self.initial is not None and last)

    def finish(self, *, last: bool) -> None:
        """Set the model's weights to those that are exported, alike on all processes."""
        super().finish(last=last)
        if self.initial is None or not last:
            return
        backbone = self.network.backbone
        if self.accelerator.is_main_process:
            self.initial.mix_into(backbone, self.share, self.inputs(), self.network.frozen)
        if self.accelerator.num_processes > 1:
            for value in (*backbone.parameters(), *backbone.buffers()):
                broadcast(value.data)

"""Mix the initial weights into the trained ones, so that what they knew is kept.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), CVPR 2022: the average
of the weights before and after a training often is as good as the latter at what was trained, and
as good as the former at everything else. Batch-norm statistics do not average and are estimated
anew, on the inputs that the training begins with.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.features import reestimate_batch_norm

BATCHES = 16  # of training, on which batch statistics are estimated


class Initial:
    """The weights that a backbone has before it is trained.

    Args:
        backbone: the backbone with these weights.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> nn.init.constant_(layer.weight, 2.0).item()
        2.0
        >>> initial = Initial(layer)
        >>> nn.init.constant_(layer.weight, 4.0).item()
        4.0
        >>> initial.mix_into(layer, 0.25)
        >>> layer.weight.item()
        3.5
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.weights = {name: p.detach().clone() for name, p in backbone.named_parameters()}

    @torch.no_grad()
    def mix_into(
        self,
        backbone: nn.Module,
        share: float,
        batches: Iterable[Tensor] = (),
        frozen: Collection[str] = (),
    ) -> None:
        """Set weights to their weighted mean with the initial ones.

        Args:
            backbone: the same network, trained; changed in place.
            share: of the initial weights, from 0 to 1.
            batches: inputs float32 ``[B, 3, h, w]`` on which batch statistics are estimated.
            frozen: parameters that were not trained; the statistics of their layers stay.
        """
        for name, parameter in backbone.named_parameters():
            parameter.lerp_(self.weights[name].to(parameter), share)
        if not has_batch_norm(backbone):
            return
        before = {name: value.clone() for name, value in backbone.named_buffers()}
        training = backbone.training
        reestimate_batch_norm(backbone, itertools.islice(batches, BATCHES))
        backbone.train(training)
        layers = {name.rpartition(".")[0] for name in frozen}
        for name, value in backbone.named_buffers():
            if name.rpartition(".")[0] in layers:
                value.copy_(before[name])

"""What every patch task offers; a task is one file beside this one, and its name is the file's.

A task turns a batch of crops into inputs and free labels. It never sees a file, Accelerate or the
Hub, and its labels come from geometry alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from patchit_hf.data.draws import Draws
from patchit_hf.patch_tasks.transform import PatchTransform


class PatchBatch(NamedTuple):
    """Inputs and targets of a batch, on the crops' device."""

    inputs: Tensor
    targets: Tensor


class PatchTask(Protocol):
    """A patch task.

    Attributes:
        canvas: height and width of the crops that the task takes, in pixels.
        num_classes: number of answers that its head chooses from.
        chance: accuracy of guessing.
        inputs_per_sample: how many inputs of the trunk one sample is.
        transform: from uint8 patches to the network's input; carries mean and deviation.
    """

    canvas: tuple[int, int]
    num_classes: int
    chance: float
    inputs_per_sample: int
    transform: PatchTransform

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the trunk sees, in pixels."""
        ...

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width of the centre of the canvas that patches are cut from, in pixels."""
        ...

    @property
    def kwargs(self) -> dict[str, Any]:
        """Every option with its value; ``create_task(name, canvas, **kwargs)`` rebuilds it."""
        ...

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut one random sample from every crop, uint8 ``[B, 3, H, W]``, for training."""
        ...

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Ask every question of every crop, for evaluation: ``[B * questions, ...]``."""
        ...

    def head(self, num_features: int) -> nn.Module:
        """Return the head: from unpooled features ``[B, C, H, W]`` to ``loss``'s output."""
        ...

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return ``loss`` and metrics such as ``accuracy``, each a scalar mean over the batch."""
        ...

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
    """A batch on the crops' device.

    Attributes:
        inputs: what the trunk sees, float32 ``[B, 3, S, S]``, or ``[B, K, 3, S, S]`` where a
            sample is K pictures.
        targets: what ``loss`` needs to know, its first dimension ``B``.
    """

    inputs: Tensor
    targets: Tensor


class PatchTask(Protocol):
    """A patch task.

    Attributes:
        canvas: height and width of the crops that the task takes, in pixels.
        num_classes: number of answers that its head chooses from.
        chance: accuracy of guessing.
        inputs_per_sample: how many inputs of the trunk one training sample is (K).
        transform: from uint8 patches to the network's input; carries mean and deviation.
        progress: share of the training that is done; the trainer keeps it, and it is 1 in
            evaluations. For what changes while training.
        boxes: where the places lie that the classes name, xyxy in pixels of the canvas, int64
            ``[num_classes, 4]``; None where a class is no place.
    """

    canvas: tuple[int, int]
    num_classes: int
    chance: float
    inputs_per_sample: int
    transform: PatchTransform
    progress: float

    @property
    def boxes(self) -> Tensor | None:
        """See the class."""
        ...

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
        """Ask a fixed set of questions of every crop, for evaluation: ``[B * n, ...]``.

        Without the random options of the transform, and every class about equally often.
        """
        ...

    def head(self, num_features: int) -> nn.Module:
        """Return the head: from unpooled features ``[B * K, C, H, W]`` to ``loss``'s output."""
        ...

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return ``loss``, ``accuracy`` and other metrics, each a scalar mean over the batch."""
        ...

    def answers(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes answered and the true ones, int64 ``[N]`` each: N questions."""
        ...

    def examples(self, batch: PatchBatch) -> Tensor:
        """Return the pictures that each of the N questions of ``answers`` is about.

        In their order, ``[N, K, 3, S, S]``: all that somebody without a network has to go by.
        """
        ...

"""The base classes of patch tasks. A task is one file in this folder, named after the file.

A task turns a batch of crops into inputs and free labels. It knows nothing of files, Accelerate or
the Hub, and its labels come from geometry, and from which crop it was.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from patchit_hf.common.draws import Draws
from patchit_hf.patch_tasks.grid import Grid
from patchit_hf.patch_tasks.transform import PatchTransform


class PatchBatch(NamedTuple):
    """A batch on the crops' device.

    Attributes:
        inputs: the input of the backbone, float32 ``[B, 3, S, S]``, or ``[B, K, 3, S, S]`` where a
            sample is K patches.
        targets: what ``loss`` compares the output with, ``[B, ...]``.
    """

    inputs: Tensor
    targets: Tensor


class PatchTask:
    """A patch task on a grid of cells.

    A task defines ``sample``, ``sample_all`` and ``head``. Everything else is that of a
    classification with one question per sample; a task overrides what differs. Its keyword-only
    arguments are its options, and it (or its grid) keeps each as an attribute of the same name.
    A task does not change after it is made.

    Args:
        canvas: height and width of the crops, in pixels.
        grid: where patches are cut.
        num_classes: number of answers that the head chooses from; chance is one in so many.
        options: see ``PatchTransform``.

    Attributes:
        inputs_per_sample: number of inputs that one training sample gives the backbone (K).
        transform: from uint8 patches to the input of the network; holds mean and std.

    Example:
        >>> from patchit_hf import create_task
        >>> task = create_task("position", rows=4, cols=2)
        >>> task.num_classes, task.chance, task.input_size
        (8, 0.125, (32, 32))
        >>> task.kwargs["rows"], task.kwargs["grayscale"]
        (4, 0.0)
    """

    inputs_per_sample: int = 1

    def __init__(
        self, canvas: tuple[int, int], grid: Grid, num_classes: int, options: dict[str, Any]
    ) -> None:
        self.canvas, self.grid, self.num_classes = canvas, grid, num_classes
        self.transform = PatchTransform(**options)

    def with_statistics(self, mean: Sequence[float], std: Sequence[float]) -> Self:
        """Return this task with the mean and standard deviation of the crops it is trained on.

        Args:
            mean: per channel, of crops in [0, 1].
            std: per channel, likewise.

        Example:
            >>> from patchit_hf import create_task
            >>> task = create_task("position").with_statistics([0.4, 0.4, 0.4], [0.2, 0.2, 0.2])
            >>> task.transform.mean
            (0.4, 0.4, 0.4)
        """
        task = copy.copy(self)
        task.transform = dataclasses.replace(
            self.transform, mean=tuple(map(float, mean)), std=tuple(map(float, std))
        )
        return task

    def sample(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Cut one random sample from every crop, uint8 ``[B, 3, H, W]``, for training.

        All random numbers come from ``draws``, and whatever changes during training follows
        ``draws.progress``.
        """
        raise NotImplementedError

    def sample_all(self, crops: Tensor, draws: Draws) -> PatchBatch:
        """Ask a fixed set of questions of every crop, for evaluation: ``[B * n, ...]``.

        Without the random options of the transform, and every class about equally often.
        """
        raise NotImplementedError

    def head(self, num_features: int) -> nn.Module:
        """Return a module from unpooled features ``[B * K, C, H, W]`` to what ``loss`` takes."""
        raise NotImplementedError

    def for_training(self, head: nn.Module, num_crops: int, seed: int) -> Self:
        """Return this task for a training, whose head gets what it needs to know of the crops.

        Called once, before there is an optimiser. By default nothing depends on the crops.

        Args:
            head: this task's head; changed in place.
            num_crops: number of training crops, 0 for a stream.
            seed: seed of the initial weights.
        """
        return self

    def sees_all_after(self, max_steps: int) -> list[int]:
        """Return the numbers of steps after which ``see_all`` is called."""
        return []

    def see_all(
        self,
        head: nn.Module,
        features: Callable[[Tensor], Tensor],
        batches: Iterable[tuple[Tensor, Tensor]],
    ) -> str:
        """Let a head see every training crop, without gradients.

        Args:
            head: this task's head; changed in place.
            features: from inputs ``[N, 3, h, w]`` to unpooled features.
            batches: rows of crops, int64 ``[B]``, and these crops, uint8 ``[B, 3, H, W]``.

        Returns:
            What to tell the user, if anything.
        """
        return ""

    def bytes_per_run(self, num_crops: int) -> int:
        """Return the memory that ``for_training`` leads to, gradients and optimiser included."""
        return 0

    def trained_apart(self, head: nn.Module) -> dict[str, float]:
        """Return peak learning rates of parameters that need their own, by name in the head.

        They are not decayed, and an optimiser for matrices, such as Muon, leaves them to AdamW.
        """
        return {}

    def exported(self, head: nn.Module) -> nn.Module:
        """Return what of a trained head is exported; ``head`` of a new task can load it."""
        return head

    def loss(self, output: Any, targets: Tensor) -> dict[str, Tensor]:
        """Return ``loss``, ``accuracy`` and other metrics, each a scalar mean over the batch.

        By default the cross-entropy of logits ``[B, num_classes]`` and targets ``[B]``.
        """
        return {"loss": F.cross_entropy(output, targets), "accuracy": accuracy(output, targets)}

    def truth(self, targets: Tensor) -> Tensor:
        """Return the true classes of the N questions of a batch, int64 ``[N]``."""
        return targets

    def answers(self, output: Any) -> Tensor:
        """Return the predicted classes, int64 ``[N]``, in the order of ``truth``."""
        answered: Tensor = output.argmax(1)
        return answered

    def collected(self, output: Any, targets: Tensor) -> Tensor | None:
        """Return what ``over_all`` needs of a batch, ``[n, ...]``; None for nothing."""
        return None

    def over_all(self, collected: Tensor) -> dict[str, float]:
        """Return metrics that compare all held-out crops with each other.

        Args:
            collected: what ``collected`` returned of every batch of all processes, joined; the
                order of the batches depends on the number of processes.
        """
        return {}

    def compared(self, batch: PatchBatch) -> Tensor | None:
        """Return the inputs whose embeddings ``over_all`` compares, ``[B, n, 3, h, w]``."""
        return None

    def examples(self, batch: PatchBatch) -> Tensor:
        """Return the patches that each of the N questions is about, ``[N, K, 3, S, S]``.

        Figures show them, and the audit looks for shortcuts in them.
        """
        inputs = batch.inputs
        return inputs if inputs.ndim == 5 else inputs[:, None]

    @property
    def boxes(self) -> Tensor | None:
        """The box that each class names, as xyxy in pixels of the canvas.

        int64 ``[num_classes, 4]``; None if classes do not name boxes.
        """
        return None

    @property
    def beside(self) -> bool:
        """Whether the answers are asked beside the training: the backbone does not learn from them.

        What they say of it is then what its features happen to know.
        """
        return False

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1 / self.num_classes

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input of the backbone, in pixels."""
        height, width = (round(side * self.transform.input_scale) for side in self.grid.size)
        return height, width

    @property
    def crop_scale(self) -> float:
        """Scale of a whole crop that shows the network what it has learnt from."""
        return self.transform.input_scale

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width of the central area that patches are cut from, in pixels."""
        return self.grid.covered

    @property
    def kwargs(self) -> dict[str, Any]:
        """Every option with its value; ``create_task(name, canvas, **kwargs)`` rebuilds it."""
        own = {name: getattr(self, name, None) for name in own_options(type(self))}
        for name, value in own.items():
            own[name] = getattr(self.grid, name) if value is None else value
        return {**own, **self.transform.options}


class GridTask(PatchTask):
    """A patch task whose options are those of a grid.

    Args:
        canvas: height and width of the crops, in pixels.
        num_classes: number of answers; None if each cell of the grid is one.
        rows: rows of cells.
        cols: columns of cells.
        patch_size: side of a patch, or its height and width, in pixels.
        jitter: largest random offset of a patch from its cell, in pixels; see ``Grid``.
        margin: gap between cells, in pixels.
        **options: see ``PatchTransform``.

    Raises:
        InputError: for a value out of range, or a grid that the canvas cannot hold.
    """

    def __init__(
        self,
        canvas: tuple[int, int] = (200, 100),
        num_classes: int | None = None,
        *,
        rows: int = 6,
        cols: int = 3,
        patch_size: int | list[int] = 32,
        jitter: int = 4,
        margin: int = 0,
        **options: Any,
    ) -> None:
        grid = Grid(rows, cols, patch_size, jitter, margin, canvas)
        self._names_cells = num_classes is None
        answers = grid.num_cells if num_classes is None else num_classes
        super().__init__(canvas, grid, answers, options)

    @property
    def boxes(self) -> Tensor | None:
        """The cells as in ``PatchTask.boxes``; None where the classes are not the cells."""
        return self.grid.boxes if self._names_cells else None


def own_options(task_class: type[PatchTask]) -> list[str]:
    """Return the names of a task's own options: its keyword-only parameters, inherited first."""
    names: list[str] = []
    for base in reversed(task_class.__mro__):
        if "__init__" in vars(base):
            parameters = inspect.signature(base).parameters.values()
            names += [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return list(dict.fromkeys(names))


def accuracy(output: Tensor, targets: Tensor) -> Tensor:
    """Return the fraction of right answers, a scalar.

    Args:
        output: logits ``[B, classes, ...]``.
        targets: int64 ``[B, ...]``.

    Example:
        >>> import torch
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0])).item()
        0.5
    """
    return (output.argmax(1) == targets).to(torch.float32).mean()


def task_name(task: PatchTask) -> str:
    """Return the task's file name."""
    return type(task).__module__.rpartition(".")[2]

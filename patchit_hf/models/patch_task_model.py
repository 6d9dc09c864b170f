"""A backbone with the head of a patch task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patchit_hf.common.errors import InputError
from patchit_hf.data.images import ImageInput, ImageInputs, Images
from patchit_hf.downstream.augment import Geometry
from patchit_hf.models.answers import PatchAnswers, ask
from patchit_hf.models.backbone import (
    BATCH_NORMS,
    BackboneSpec,
    num_features,
)
from patchit_hf.models.embed import Extractor, embed
from patchit_hf.models.feature_maps import feature_map as feature_map
from patchit_hf.models.features import crop_size, divisor
from patchit_hf.models.initial_weights import Statistics
from patchit_hf.models.layers import freeze_stages, layered_groups
from patchit_hf.models.origin import Origin, origin_now
from patchit_hf.models.read_export import read_export
from patchit_hf.models.small_maps import small_map_convolutions
from patchit_hf.models.weights_fit import backbone_state
from patchit_hf.patch_tasks.base import PatchTask, task_name


class PatchTaskModel(nn.Module):
    """A backbone and the head of a patch task.

    Args:
        backbone: a timm model without classifier.
        head: takes unpooled features ``[B, C, H, W]``.
        spec: how the backbone was built.
        task: the task that the head answers.
        origin: where the backbone's initial weights come from; None for random ones.
        statistics: mean and standard deviation per channel that these weights expect; None for
            those of the training crops.

    Attributes:
        fit: how images get to the canvas; see ``patchit_hf.data.canvas.to_canvas``.
        trained_in: folder of the run that trains it, or has trained it last.
        drawn: seed and fingerprint of random weights, when they were drawn; None for others.
        record: its ``patchit.json``, where the model was read back.

    Example:
        >>> from patchit_hf import build_model, create_task
        >>> model = build_model("resnet10t", create_task("position"), seed=0)
        >>> model(torch.zeros(2, 1, 3, 32, 32)).shape
        torch.Size([2, 18])
    """

    fit: str = "squash"
    record: dict[str, Any]
    drawn: tuple[int, str] | None = None
    trained_in: Path | None = None

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        spec: BackboneSpec,
        task: PatchTask | None = None,
        *,
        origin: Origin | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.task = task
        self.origin, self.statistics = origin, statistics
        self.frozen: frozenset[str] = frozenset()  # parameters of the backbone

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        revision: str | None = None,
        *,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        backbone: nn.Module | None = None,
    ) -> PatchTaskModel:
        """Load an export: the backbone, its pretext head and its task.

        Args:
            source: a folder, or ``org/name[@revision]`` on the Hub.
            revision: branch, tag or commit on the Hub.
            cache_dir: where files of the Hub are kept; None for the usual place.
            token: for the Hub; None for that of the login, False for none.
            backbone: a network like the one that was trained, if that was not timm's; it stays as
                it is.

        Returns:
            The model in evaluation mode; ``task`` is its task, with mean and deviation of the
            crops.

        Raises:
            InputError: if there is no export, or one that this version cannot read.
        """
        found = read_export(source, revision, cache_dir=cache_dir, token=token, backbone=backbone)
        task = found.task
        model = cls(
            found.backbone, found.head, found.spec, task, origin=found.origin,
            statistics=(task.transform.mean, task.transform.std),
        )  # fmt: skip
        model.fit = str(found.record.get("config", {}).get("fit", "squash"))
        model.record = found.record
        return model.eval()

    def with_task(self, task: PatchTask, seed: int = 0) -> PatchTaskModel:
        """Return a model of this backbone, which the two then share, with a new head for a task.

        Args:
            task: what the new head answers.
            seed: of the head's random weights.

        Example:
            >>> from patchit_hf import build_model, create_task
            >>> model = build_model("test_resnet", create_task("pt18"), seed=0)
            >>> other = model.with_task(create_task("pt8"))
            >>> other.task.num_classes, other.backbone is model.backbone
            (8, True)
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = task.head(num_features(self.backbone))
        head.to(next(self.backbone.parameters()).device)
        other = PatchTaskModel(
            self.backbone, head, self.spec, task, origin=self.origin, statistics=self.statistics
        )
        other.fit, other.drawn, other.frozen = self.fit, self.drawn, self.frozen
        return other.train(self.training)

    def check_task(self, task: PatchTask) -> None:
        """Check that the head answers a task.

        Raises:
            InputError: if it is another task's, naming both.
        """
        with torch.device("meta"):
            wanted = task.head(num_features(self.backbone)).state_dict()
        here = {name: value.shape for name, value in self.head.state_dict().items()}
        fits = here == {name: value.shape for name, value in wanted.items()}
        same = self.task is None or _questions(self.task) == _questions(task)
        if not (fits and same):
            mine = "another task" if self.task is None else _described(self.task)
            raise InputError(
                f"model: its head is for {mine}, and the task is {_described(task)}; "
                "model.with_task(task) puts a new head on the same backbone"
            )

    def settle_origin(self) -> None:
        """Bring up to date where the backbone's weights come from; see ``origin_now``."""
        drawn = None if self.drawn is None else self.drawn[1]
        weights = backbone_state(self.backbone)
        self.origin = origin_now(weights, self.spec.name, self.origin, drawn)

    def ask(self, image: ImageInput, rounds: int = 1) -> PatchAnswers:
        """Ask the task's questions about one image, as an evaluation does.

        Args:
            image: one image of any kind that ``embed`` takes.
            rounds: how often it is cut into patches, each time with other offsets.

        Returns:
            Crop, patches, right answers and those of the network.

        Raises:
            InputError: for an image that cannot be used, a model without a task, or no round.

        Example:
            >>> from patchit_hf import build_model, create_task
            >>> model = build_model("test_resnet", create_task("position"), seed=0)
            >>> answers = model.ask(torch.zeros(3, 200, 100), rounds=2)
            >>> answers.patches.shape, answers.answered.shape
            (torch.Size([18, 32, 32, 3]), torch.Size([2, 18]))
        """
        return ask(self, self._given_task(), image, rounds)

    def embed(
        self,
        images: ImageInputs,
        batch_size: int = 64,
        *,
        image_column: str | None = None,
        reestimate_batch_norm: bool = False,
    ) -> NDArray[np.float32]:
        """Return features of whole images, as users of the exported backbone get them.

        Batch normalisation has learnt its statistics on patches, and whole crops have others.
        ``reestimate_batch_norm`` sets them, on a copy, to those of (at most 2000 of) the given
        images, which should then be many and of the kind that is embedded later: what one image's
        features are depends on the others. ``patchit evaluate FOLDER --embed`` does
        so by default.

        Args:
            images: one image or many: PIL images, paths, bytes of files, arrays ``[H, W, 3]``,
                tensors ``[3, H, W]``, a column of images, or a ``datasets.Dataset``.
            batch_size: images at a time.
            image_column: the image column of a data set that has several.
            reestimate_batch_norm: whether batch statistics are those of the given images.

        Returns:
            float32 ``[N, C]``; ``[C]`` for a single image.

        Raises:
            InputError: for an image that cannot be used, by its index.

        Example:
            >>> from patchit_hf import build_model, create_task
            >>> model = build_model("test_resnet", create_task("position"), seed=0)
            >>> model.embed([torch.zeros(3, 200, 100), torch.ones(3, 100, 50)]).shape
            (2, 96)
        """
        found = Images(images, image_column)
        return embed(self.extractor(), found, batch_size, reestimate=reestimate_batch_norm)

    def extractor(self) -> Extractor:
        """Return the frozen backbone with the way of whole crops to it.

        Raises:
            InputError: if the model has no task, and thus no canvas.
        """
        task = self._given_task()
        step = divisor(self.backbone)
        size = task.input_size if self.spec.fixed_size else crop_size(task, step)
        device = next(self.backbone.parameters()).device
        mean, std = (
            torch.tensor(v, device=device) for v in (task.transform.mean, task.transform.std)
        )
        geometry = Geometry(task.canvas, task.covered, size)
        return Extractor(self.backbone, geometry, mean, std, self.fit)

    def _given_task(self) -> PatchTask:
        if self.task is None:
            raise InputError("this model has no task, which says what size its images have")
        return self.task

    def features(self, inputs: Tensor) -> Tensor:
        """Return unpooled features ``[B, C, H, W]`` of inputs ``[B, 3, H, W]``."""
        with small_map_convolutions(inputs):
            return feature_map(self.backbone, inputs)

    def forward(self, inputs: Tensor) -> Any:
        """Return the head's output for ``[B, 3, H, W]``, or ``[B, K, 3, H, W]`` for K patches each.

        The backbone sees the patches of all samples as one batch.
        """
        return self.head(self.features(inputs.flatten(0, -4)))

    def train(self, mode: bool = True) -> PatchTaskModel:
        """Switch to training mode; batch statistics of frozen stages stay as they are."""
        super().train(mode)
        for name, module in self.backbone.named_modules():
            if isinstance(module, BATCH_NORMS) and f"{name}.weight" in self.frozen:
                module.eval()
        return self

    def freeze_stages(self, count: int) -> None:
        """Keep the backbone's stem and its first stages as they are; see ``layers``.

        Raises:
            InputError: if it has too few stages, or does not name them.
        """
        self.frozen = frozenset(freeze_stages(self.backbone, count, self.spec.name))

    def parameter_groups(self, weight_decay: float, layer_decay: float | None) -> Any:
        """Return what the optimiser trains; with ``layer_decay`` < 1 deeper layers learn faster."""
        return layered_groups(self, self.backbone, self.head, weight_decay, layer_decay)


def _questions(task: PatchTask) -> tuple[Any, ...]:
    """Return what the classes of a task mean: options that only vary the inputs are left out."""
    kwargs = task.kwargs
    cells = {name: kwargs.get(name) for name in ("rows", "cols", "margin")}
    return task_name(task), tuple(task.canvas), cells, task.num_classes


def _described(task: PatchTask) -> str:
    kwargs, (height, width) = task.kwargs, task.canvas
    grid = f"{kwargs['rows']}x{kwargs['cols']} cells, " if {"rows", "cols"} <= set(kwargs) else ""
    return f"{task_name(task)} ({grid}{task.num_classes} classes, canvas {height}x{width})"

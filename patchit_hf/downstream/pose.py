"""Pose: where is each joint? Answered with heat maps.

A light head of transposed convolutions (Xiao et al., ECCV 2018), decoded by DARK or soft-argmax.
Evaluated with PCK@0.2 of the torso, PCKh@0.5 of the head, and average precision over OKS. In a
mirrored crop, the joints of both sides swap their names.

``keypoints`` holds ``[J, 3]``: x, y in pixels of the image, and 0 if a joint is not visible; see
``joints.read_joints`` for what else it may hold. If a row has a ``bbox`` (x0, y0, x1, y1 in
pixels), the person is cut out with a margin and the aspect ratio kept; anything outside the image
is black. A data set that states the names of its joints may list them in another order.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from typing_extensions import Self

from patchit_hf.common.errors import InputError
from patchit_hf.data.columns import find_image_column
from patchit_hf.downstream import keypoints as kp
from patchit_hf.downstream.augment import Augmentation, Geometry, View, central_view
from patchit_hf.downstream.base import DownstreamTask, Report
from patchit_hf.downstream.columns import column_values, find_column, require, swapped
from patchit_hf.downstream.heads import HeatMaps
from patchit_hf.downstream.joints import count_of, names_of, order_of, remarks
from patchit_hf.downstream.pose_scores import has_torso, pose_report
from patchit_hf.downstream.results import Keypoint, PoseResult
from patchit_hf.downstream.windows import (
    WINDOW,
    Window,
    cut_person,
    cut_window,
    window_around,
)

logger = logging.getLogger(__name__)

COLUMNS, BOXES = ("keypoints",), ("bbox", "box")
DECODERS = ("dark", "soft_argmax")
KNOWN = {len(names): list(names) for names in (kp.LSP, kp.COCO)}


class Task(DownstreamTask):
    """The joints of one person per image or box.

    Args:
        column: the column of joints.
        joints: their names; those of a side begin with ``left`` or ``right``.
        box_column: the column of boxes, or None if each image shows a single person.
        image_column: the column of images.
        margin: how much larger than the box the crop is, as a fraction of its sides.
        decode: ``dark``, or ``soft_argmax``, which adds the distance to the loss.
        sigma: standard deviation of the Gaussians, in pixels of the heat maps.
        width: channels of the head.

    Raises:
        InputError: for a value out of range.

    Example:
        >>> import torch
        >>> names = ["left knee", "right knee"]
        >>> task = Task(column="keypoints", joints=names, box_column=None, image_column="image")
        >>> task = task.with_input_size((64, 32))
        >>> maps = task.head(8)(torch.rand(1, 8, 2, 1))
        >>> maps.shape, task.predict(maps).shape  # x, y and a score for each joint
        (torch.Size([1, 2, 16, 8]), torch.Size([1, 2, 3]))
    """

    cuts_windows = True
    augmentation = Augmentation(zoom=0.25, shift=0.05, rotate=30.0)

    def __init__(
        self,
        *,
        column: str,
        joints: list[str],
        box_column: str | None,
        image_column: str,
        margin: float = 0.25,
        decode: str = "dark",
        sigma: float = 1.5,
        width: int = 128,
    ) -> None:
        if decode not in DECODERS:
            raise InputError(f"decode={decode!r} in --task-kwargs: {' or '.join(DECODERS)}")
        for name, value in (("margin", margin), ("sigma", sigma)):
            if not isinstance(value, int | float) or not 0 <= value <= 10:
                raise InputError(f"{name}={value!r} in --task-kwargs: a number from 0 to 10")
        if not isinstance(width, int) or width < 1:
            raise InputError(f"width={width!r} in --task-kwargs: a whole number from 1")
        self.column, self.joints, self.box_column = column, list(joints), box_column
        self.image_column, self.margin, self.decode = image_column, margin, decode
        self.sigma, self.width = sigma, width
        self._sides = torch.tensor(swapped(self.joints))
        self._stated: list[str] | None = None  # the joints of a data set that does not name them
        self._told: set[str] = set()

    @classmethod
    def from_dataset(
        cls,
        dataset: datasets.Dataset,
        *,
        column: str | None = None,
        joints: list[str] | None = None,
        box_column: str | None = None,
        image_column: str | None = None,
        margin: float = 0.25,
        decode: str = "dark",
        sigma: float = 1.5,
        width: int = 128,
    ) -> Self:
        """Build the task from a training split.

        Without names in the data set, 14 joints have those of Leeds Sports Pose and 17 those of
        COCO by default.
        """
        name = find_column(dataset, column, COLUMNS, "column")
        names = joints or names_of(dataset, name)
        count = count_of(dataset, name, None)
        if count is None:
            raise InputError(f"column {name!r}: none of its {len(dataset)} rows has a joint")
        names = names or KNOWN.get(count)
        if names is None or len(names) != count:
            raise InputError(
                f"column {name!r}: has {count} joints; name them: --task-kwargs joints=[...]"
            )
        box = box_column or next((b for b in BOXES if b in dataset.column_names), None)
        if box is not None:
            require(dataset, box)
        return cls(
            column=name, joints=names, box_column=box,
            image_column=find_image_column(dataset, image_column, "the data set"),
            margin=margin, decode=decode, sigma=sigma, width=width,
        )  # fmt: skip

    @property
    def primary_metric(self) -> str:
        """PCK@0.2 if the joints include a torso, else the average precision."""
        return "pck" if has_torso(self.joints) else "ap"

    def prepare(self, dataset: datasets.Dataset, canvas: tuple[int, int]) -> datasets.Dataset:
        """Cut people out of their images, with their joints in pixels of the canvas.

        Raises:
            InputError: for joints that were not trained, or columns that are missing.
        """
        require(dataset, self.column)
        if self.box_column is not None:
            require(dataset, self.box_column)
            for line in remarks(column_values(dataset, self.box_column), self.box_column):
                self._tell(line)
        count, order = self._read(dataset)
        kept = [self.image_column, self.column, *([self.box_column] if self.box_column else [])]
        source = dataset.select_columns(kept)
        source = source.cast_column(self.image_column, datasets.Image(decode=False))
        number = datasets.Value("float32")
        features = datasets.Features(
            {
                self.image_column: datasets.Image(),
                self.column: datasets.Sequence(datasets.Sequence(number, length=3)),
                WINDOW: datasets.Sequence(number, length=4),
            }
        )
        cut = partial(
            cut_person, image=self.image_column, joints=self.column, box=self.box_column,
            canvas=canvas, margin=self.margin, count=count, order=order,
        )  # fmt: skip
        return source.map(
            cut, with_indices=True, remove_columns=kept, features=features, desc="cutting people"
        )

    def reading(self, joints: list[str]) -> Self:
        """Return this task for data sets that hold these joints, in this order, unnamed."""
        return self._with(_stated=list(joints))

    def _read(self, dataset: datasets.Dataset) -> tuple[int, list[int]]:
        """Return how many joints a row holds, and where the trained ones are among them."""
        stated = self._stated or names_of(dataset, self.column)
        count = count_of(dataset, self.column, stated) or len(self.joints)
        if stated is None:
            stated = self.joints if count == len(self.joints) else KNOWN.get(count)
        if stated is None:
            raise InputError(
                f"column {self.column!r}: has {count} joints; {len(self.joints)} were trained "
                f"({', '.join(self.joints)})"
            )
        try:
            return len(stated), order_of(stated, self.joints)
        except InputError as error:
            raise InputError(f"column {self.column!r}: {error}") from None

    def _tell(self, line: str) -> None:
        if line not in self._told:
            logger.warning("pose: %s", line)
        self._told.add(line)

    def targets(self, dataset: datasets.Dataset) -> Tensor:
        """Return float32 ``[N, J, 3]``: x, y in pixels of the canvas, and 1 if visible."""
        found = torch.tensor(column_values(dataset, self.column), dtype=torch.float32)
        if found.shape[1:] != (len(self.joints), 3):
            raise InputError(
                f"column {self.column!r}: holds {tuple(found.shape[1:])} a row; "
                f"{(len(self.joints), 3)} was trained"
            )
        return found

    def usable(self, targets: Tensor) -> Tensor:
        """Return which rows show any joint, bool ``[N]``."""
        return (targets[..., 2] > 0).any(1)

    def groups(self, targets: Tensor) -> Tensor:
        """Return which row shows which joint, bool ``[N, J]``."""
        return targets[..., 2] > 0

    def head(self, num_features: int) -> nn.Module:
        """Return the transposed convolutions, from ``[B, C, H, W]`` to ``[B, J, 8 * H, 8 * W]``."""
        return HeatMaps(num_features, len(self.joints), self.width)

    def moved(self, targets: Tensor, view: View) -> Tensor:
        """Return the joints in pixels of the input, as the view shows them."""
        points = torch.where(view.flipped.view(-1, 1, 1), self.mirrored(targets), targets)
        return torch.cat([view.to_input(points[..., :2]), points[..., 2:]], 2)

    def mirrored(self, targets: Tensor) -> Tensor:
        """Swap the joints of both sides; their coordinates do not change."""
        return targets[:, self._sides.to(targets.device)]

    def loss(self, output: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the mean squared error of heat maps ``[B, J, H, W]`` over the visible joints."""
        maps = output.float()
        stride = self._stride(maps)
        points, seen = targets[..., :2] / stride, targets[..., 2] > 0
        height, width = maps.shape[-2:]
        inside = (points >= 0).all(-1) & (points[..., 0] < width) & (points[..., 1] < height)
        seen = (seen & inside).to(maps.dtype)
        truth = kp.draw_maps(points, (height, width), self.sigma)
        each = ((maps - truth) ** 2).sum((2, 3)) * seen
        loss = each.sum() / seen.sum().clamp(min=1) / 10
        if self.decode == "soft_argmax":
            found, _ = kp.soft_argmax(maps)
            away = F.smooth_l1_loss(found, points, reduction="none").sum(-1) * seen
            loss = loss + away.sum() / seen.sum().clamp(min=1) / 10
        return {"loss": loss}

    def predict(self, output: Tensor) -> Tensor:
        """Return ``[B, J, 3]``: x, y in pixels of the input, and a score."""
        maps = output.float()
        points, peaks = kp.dark(maps, self.sigma) if self.decode == "dark" else kp.soft_argmax(maps)
        return torch.cat([points * self._stride(maps), peaks[..., None]], -1)

    def _stride(self, maps: Tensor) -> Tensor:
        return maps.new_tensor(self.input_size[::-1]) / maps.new_tensor(maps.shape[-2:][::-1])

    def measure(self, predictions: Tensor, targets: Tensor) -> Report:
        """Return PCK@0.2 of the torso, PCKh@0.5 of the head, and average precision over OKS."""
        return pose_report(predictions, targets, self.joints)

    def in_picture(
        self, predictions: Tensor, geometry: Geometry, dataset: datasets.Dataset
    ) -> Tensor:
        """Return x, y in pixels of the image that the person was cut from."""
        windows = torch.tensor(column_values(dataset, WINDOW))
        return self.placed(predictions, geometry, windows)

    def cut(
        self, image: Image.Image, box: Window | None, canvas: tuple[int, int], fit: str
    ) -> tuple[NDArray[np.uint8], Window]:
        """Cut the window around a box, or the whole image as it is, as ``prepare`` does."""
        window = (0.0, 0.0, float(image.width), float(image.height))
        if box is not None:
            window = window_around(box, canvas, self.margin)
        return np.asarray(cut_window(image, window, canvas), np.uint8), window

    def placed(self, predictions: Tensor, geometry: Geometry, windows: Tensor) -> Tensor:
        """Return x, y in pixels of the images."""
        view = central_view(geometry, len(predictions))
        shares = view.to_canvas(predictions[..., :2]) / torch.tensor(geometry.canvas[::-1])
        low, high = windows[:, None, :2], windows[:, None, 2:]
        return torch.cat([low + shares * (high - low), predictions[..., 2:]], -1)

    def result(self, prediction: Tensor) -> PoseResult:
        """Return the joints ``[J, 3]`` by name."""
        points = zip(self.joints, prediction.tolist(), strict=True)
        return PoseResult({joint: Keypoint(*point) for joint, point in points})

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Return the joints: x, y and a score each."""
        return {"predicted_keypoints": predictions.tolist()}

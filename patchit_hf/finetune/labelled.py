"""Labelled crops: opened, resized to the canvas, and reduced to a nested subset."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import datasets
import torch
from torch import Tensor

from patchit_hf.common.draws import epoch_order
from patchit_hf.common.errors import InputError
from patchit_hf.data.bad import BadImages
from patchit_hf.data.columns import find_image_column
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.store import CropStore, LazyCrops, open_crops
from patchit_hf.downstream.base import DownstreamTask


@dataclass(frozen=True)
class Labelled:
    """Crops with their targets.

    Attributes:
        store: the decoded crops of a split; bad images are left out or replaced.
        rows: which of them are used, int64 ``[N]``.
        targets: their targets, ``[N, ...]``.
        name: name of the data in error messages.
    """

    store: CropStore | LazyCrops
    rows: Tensor
    targets: Tensor
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def split_rows(self) -> Tensor:
        """The split's rows that the used crops come from, int64 ``[N]``."""
        return _origin(self.store)[self.rows]

    def select(self, chosen: Tensor) -> Labelled:
        """Return a part, by indices int64 ``[M]`` into the used rows."""
        return Labelled(self.store, self.rows[chosen], self.targets[chosen], self.name)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield crops uint8 ``[B, 3, H, W]`` and their targets, in order."""
        crops = self.store.batches(self.rows.split(size))
        return zip(crops, self.targets.split(size), strict=True)


def open_labelled(
    dataset: datasets.Dataset,
    task: DownstreamTask,
    canvas: tuple[int, int],
    args: DecodeArguments,
    *,
    name: str,
    main: bool = True,
    which: Literal["usable", "scored", "all"] = "usable",
    part: str | None = None,
) -> Labelled:
    """Open a split.

    Bad images raise an error, or are left out if ``args`` say so. Among the usable rows, which are
    trained on, each can also be replaced by another crop with its own label.

    Args:
        dataset: the split, a ``datasets.Dataset``.
        task: defines which columns are its targets.
        canvas: height and width that crops are resized to.
        args: how crops are decoded.
        name: name of the data in errors and progress bars.
        main: whether this process shows progress.
        which: the rows that can be trained on, those that an evaluation counts, or all.
        part: name of the split in the list of bad images; by default ``train`` for usable rows,
            else ``held_out``.

    Raises:
        InputError: for missing columns, labels of another kind, damaged images, or no label.
    """
    if len(dataset) == 0:
        raise InputError(f"{name}: is empty")
    column = find_image_column(dataset, args.image_column, name)
    try:
        prepared = task.prepare(dataset, canvas)
        targets = task.targets(prepared)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    chosen = {"usable": task.usable, "scored": task.scored}.get(which)
    kept = torch.ones(len(targets), dtype=torch.bool) if chosen is None else chosen(targets)
    if not kept.any():
        raise InputError(f"{name}: {task.refusal(targets)}")
    learnt = which == "usable"
    part = part or ("train" if learnt else "held_out")
    store = _open(prepared, column, canvas, args, name, part, learnt=learnt, main=main)
    rows = torch.arange(len(store))
    if store.index is None:
        rows = rows[kept]
    else:
        origin = _origin(store)
        asked = rows if len(store) == len(targets) else origin  # the rows they were requested for
        rows, targets = rows[kept[origin] & kept[asked]], targets[origin]
    if len(rows) == 0:
        raise InputError(f"{name}: none of its readable crops has a label for this task")
    return Labelled(store, rows, targets[rows], name)


def _open(
    dataset: datasets.Dataset,
    column: str,
    canvas: tuple[int, int],
    args: DecodeArguments,
    name: str,
    part: str,
    *,
    learnt: bool = False,
    main: bool = True,
) -> CropStore | LazyCrops:
    """Open crops. Bad ones are only replaced in training; in evaluation they are left out."""
    policy = args.on_bad_image if learnt else args.on_bad_held_out
    return open_crops(
        dataset,
        column,
        canvas,
        args.fit,
        cache_gb=args.crop_cache_gb,
        workers=args.dataloader_num_workers,
        main=main,
        name=name,
        bad=BadImages(policy, part=part),
        beforehand=True,
        verify=args.verify_cache,
    )


def _origin(store: CropStore | LazyCrops) -> Tensor:
    """Return the split's row of each crop, ``[N]``."""
    return torch.arange(len(store)) if store.index is None else torch.from_numpy(store.index)


def open_crops_of(
    dataset: datasets.Dataset,
    canvas: tuple[int, int],
    args: DecodeArguments,
    name: str,
    part: str = "held_out",
) -> Labelled:
    """Open a split without labels: every readable row, and no targets.

    Raises:
        InputError: for damaged images, or an empty split.
    """
    if len(dataset) == 0:
        raise InputError(f"{name}: is empty")
    column = find_image_column(dataset, args.image_column, name)
    store = _open(dataset, column, canvas, args, name, part)
    rows = torch.arange(len(store))
    return Labelled(store, rows, torch.zeros(len(rows), 0), name)


def check_subset(fraction: float | None, shots: int | None, seed: int | None = None) -> None:
    """Check the arguments of :func:`subset`.

    Raises:
        InputError: for numbers out of range, or a seed if nothing is drawn.

    Example:
        >>> check_subset(0.5, 10)
        Traceback (most recent call last):
        patchit_hf.common.errors.InputError: --fraction and --shots: give only one of them
    """
    if fraction is not None and shots is not None:
        raise InputError("--fraction and --shots: give only one of them")
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(f"--fraction {fraction}: must be above 0 and at most 1")
    if shots is not None and shots < 1:
        raise InputError(f"--shots {shots}: must be a whole number of at least 1")
    if seed is not None and seed < 0:
        raise InputError(f"--subset-seed {seed}: must be a whole number of at least 0")
    if seed is not None and fraction is None and shots is None:
        raise InputError(
            f"--subset-seed {seed}: needs --fraction or --shots; all labels are used now"
        )


def subset(
    data: Labelled,
    task: DownstreamTask,
    fraction: float | None,
    shots: int | None,
    seed: int | None = None,
) -> Labelled:
    """Return a part of the labels; with the same seed, a smaller part lies within any larger one.

    Args:
        data: the training rows.
        task: defines what counts as a unit (a row, or a person) and as a class.
        fraction: fraction of the units, in (0, 1]; None for all.
        shots: rows per class instead; a row may count for several classes.
        seed: seed of the draw, at least 0; None means 0. It is not the seed of the training.

    Raises:
        InputError: for numbers out of range.
    """
    check_subset(fraction, shots, seed)
    order = epoch_order(seed or 0, 0, len(data))
    if shots is not None:
        shown = task.groups(data.targets)[order]
        first = shown & (shown.cumsum(0) <= shots)
        return data.select(order[first.any(1)].sort().values)
    if fraction is None:
        return data
    units = task.units(data.targets)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    numbers = units.unique(return_inverse=True)[1]
    firsts = torch.full((int(numbers.max()) + 1,), len(order)).scatter_reduce(
        0, numbers, places, "amin"
    )
    count = math.ceil(fraction * len(firsts) - 1e-9)
    limit = firsts.sort().values[count - 1]
    return data.select((firsts[numbers] <= limit).nonzero()[:, 0])

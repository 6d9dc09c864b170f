"""Frozen features: from whichever weights, and what a probe finds in them."""

from __future__ import annotations

import datasets
import numpy as np
import torch
from torch import Tensor

from patchit_hf.common.draws import epoch_order
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json
from patchit_hf.common.hub_access import USUAL, HubAccess
from patchit_hf.common.layout import DONE_FILE
from patchit_hf.data.bad import BadImages
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.downstream.augment import Geometry
from patchit_hf.downstream.labels import read_column
from patchit_hf.finetune.labelled import Labelled, open_crops_of
from patchit_hf.metrics.probe import probe
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.embed import STATISTICS_BATCH, Extractor, sampled
from patchit_hf.models.exported import locate
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.training.accelerator import device


def open_extractor(
    source: str,
    backbone: str | None,
    input_size: tuple[int, int] | None,
    access: HubAccess = USUAL,
) -> Extractor:
    """Open a frozen backbone from whatever ``--init`` of finetuning takes, on Accelerate's device.

    An export of this package sees whole crops as it says itself, unless an input size is given.

    Raises:
        InputError: if there are no such weights.
    """
    if input_size is None and backbone is None:
        model = _own_export(source, access)
        if model is not None:
            return model.to(device()).extractor()
    size = input_size or (192, 96)
    initial = open_initial(source, backbone, 0, input_size=size, **access.options())
    mean, std = initial.statistics or ((0.5,) * 3, (0.25,) * 3)
    geometry = Geometry.of(input_size or initial.input_size or (192, 96))
    where = device()
    statistics = torch.tensor(mean, device=where), torch.tensor(std, device=where)
    return Extractor(initial.backbone.to(where).eval(), geometry, *statistics)


def _own_export(source: str, access: HubAccess) -> PatchTaskModel | FinetunedModel | None:
    """Return a model that this package has written, None for other weights."""
    try:
        record = read_json(locate(source, **access.options()).fetch(DONE_FILE) / DONE_FILE)
    except InputError:
        return None
    if "downstream" in record:
        return FinetunedModel.from_pretrained(source, **access.options())
    if "task" in record:
        return PatchTaskModel.from_pretrained(source, **access.options())
    return None


def features(extractor: Extractor, data: Labelled, batch: int = 64) -> Tensor:
    """Return averaged feature maps of crops, float32 ``[N, C]`` on the CPU."""
    return extractor(crops for crops, _ in data.batches(batch))


def reestimated(extractor: Extractor, data: Labelled) -> Extractor:
    """Return the extractor with the batch statistics of crops, where its network has any.

    The crops are mixed: data sets are often sorted by camera or source, and batches of one source
    each would leave out what differs between sources.
    """
    if not has_batch_norm(extractor.backbone):
        return extractor
    rows = sampled(len(data))
    some = data.select(rows[epoch_order(0, 0, len(rows))])
    return extractor.reestimated(crops for crops, _ in some.batches(STATISTICS_BATCH))


def probe_column(
    extractor: Extractor,
    train: datasets.Dataset,
    test: datasets.Dataset,
    column: str,
    kinds: tuple[str, ...],
    args: DecodeArguments,
    *,
    reestimate: bool = True,
) -> tuple[dict[str, float], list[BadImages]]:
    """Fit kNN or a linear classifier on frozen features; balanced accuracy on the test split.

    Args:
        extractor: the frozen backbone.
        train: the split that the classifiers learn from.
        test: the split that they are judged on.
        column: the label column of both.
        kinds: ``knn``, ``linear``.
        args: how crops are decoded.
        reestimate: estimate batch statistics on the training crops first.

    Returns:
        The balanced accuracy of each kind, and the bad images that were left out of each split.

    Raises:
        InputError: for a column that is missing or no label.
    """
    label = read_column(train, column)
    found, bad = [], []
    for number, (split, part) in enumerate(((train, "train"), (test, "held_out"))):
        targets = label.encode(split)
        data = open_crops_of(split, extractor.geometry.canvas, args, f"{column} ({part})", part)
        bad.append(data.store.bad)
        targets = targets[data.split_rows]
        kept = (targets >= 0).nonzero()[:, 0]
        if len(kept) == 0:
            raise InputError(f"column {column!r}: no row has a label")
        labelled = data.select(kept)
        if number == 0 and reestimate:
            extractor = reestimated(extractor, labelled)
        found.append((features(extractor, labelled).numpy(), targets[kept].numpy()))
    (known, labels), (others, truth) = found
    if len(np.unique(labels)) < 2:
        raise InputError(f"column {column!r}: the training crops have fewer than two classes")
    values = probe(known, labels, others, truth)
    return {kind: values[kind] for kind in kinds}, bad

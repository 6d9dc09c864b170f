"""Judge a finetuned model on a labelled split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import torch

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import replacing, write_json
from patchit_hf.common.provenance import versions
from patchit_hf.data.bad import MANIFEST, BadImages, settle
from patchit_hf.data.columns import find_image_column
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.source import open_split, open_splits
from patchit_hf.data.split_names import SEARCHED, meant
from patchit_hf.downstream.augment import Geometry
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.finetune.labelled import Labelled, open_labelled
from patchit_hf.finetune.predict import predict
from patchit_hf.metrics.bootstrap import bootstrap
from patchit_hf.models.finetuned_model import FinetunedModel

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a split.

    Attributes:
        metrics: metrics by name; those that cannot be computed are missing.
        intervals: the low and the high end of their 95 % intervals, of a bootstrap.
        table: one row per attribute, class, joint or the like.
        columns: the row of the split of each crop, and its predictions, a list a column.
        crops: how many crops counted.
        data: the name of the split.
        model: the name of the model.
        split: the rows that were predicted, in the order of ``columns``.
        image_column: its images.
        bad: the bad images that were left out, of each split.
        note: why the metrics may be too good, or None.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    table: list[dict[str, Any]]
    columns: dict[str, list[Any]]
    crops: int
    data: str
    model: str
    split: datasets.Dataset = field(repr=False)
    image_column: str
    bad: list[BadImages] = field(default_factory=list, repr=False)
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what ``metrics.json`` holds, without ``bad_images`` and ``versions``."""
        figures: dict[str, dict[str, float]] = {k: {"value": v} for k, v in self.metrics.items()}
        for key, (low, high) in self.intervals.items():
            figures.setdefault(key, {}).update(low=low, high=high)
        known = {"model": self.model, "data": self.data, "crops": self.crops}
        return {**known, "figures": figures, "table": self.table}

    def save(self, folder: str | Path, **about: Any) -> Path:
        """Write ``metrics.json`` and ``predictions.parquet``, as the command does.

        Args:
            folder: made if missing.
            **about: further entries of ``metrics.json``.

        Returns:
            The folder.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_table(folder / PREDICTIONS, self.columns, self.split, self.image_column)
        write_record(folder, {**self.as_json(), **about}, self.bad)
        return folder


def score(
    model: FinetunedModel,
    split: datasets.Dataset,
    args: DecodeArguments,
    *,
    name: str,
    model_name: str,
    gallery: datasets.Dataset | None = None,
    joints: list[str] | None = None,
    samples: int = 1000,
    note: str | None = None,
) -> Evaluation:
    """Measure a finetuned model on a split.

    Args:
        model: as ``FinetunedModel.from_pretrained`` returns it.
        split: with the task's columns.
        args: how crops are decoded.
        name: what errors call the data.
        model_name: what the results call the model.
        gallery: for re-identification, the split that ``split`` is searched in; itself by default.
        joints: for pose, the names of the split's joints; see ``evaluate``.
        samples: bootstrap samples, 0 for no intervals.
        note: why the metrics may be too good.

    Raises:
        InputError: for missing columns or labels of another kind.
    """
    task, geometry = model.task, model.geometry
    task = task if gallery is None else task.by_name()
    if joints:
        if not hasattr(task, "reading"):
            raise InputError("--joints: only pose has joints")
        task = task.reading(joints)
    image = find_image_column(split, args.image_column, name)
    data = open_labelled(split, task, geometry.canvas, args, name=name, which="all")
    predictions, targets = predict(model, data, task, geometry)
    bad = [data.store.bad]
    rows = data.split_rows.tolist()
    judged = split.select(rows)
    prepared = task.prepare(judged, geometry.canvas)
    columns = {"row": rows, **task.columns(task.in_picture(predictions, geometry, prepared))}
    if gallery is not None:
        others = _open_gallery(gallery, task, geometry, args, name)
        bad.append(others.store.bad)
        found, theirs = predict(model, others, task, geometry)
        targets[:, 2], theirs[:, 2] = 1, 2  # query and gallery
        predictions, targets = torch.cat([predictions, found]), torch.cat([targets, theirs])
    else:
        kept = task.scored(targets)
        predictions, targets = predictions[kept], targets[kept]
    if len(targets) == 0:
        raise InputError(f"{name}: none of its rows has a label for this task")
    report = task.measure(predictions, targets)
    if not report.summary:
        note = f"{name}: {task.unmeasured(targets)}"
    intervals: dict[str, tuple[float, float]] = {}
    if samples:
        statistic, count = task.resampled(predictions, targets)
        intervals = bootstrap(statistic, count, samples=samples) if count else {}
    return Evaluation(
        report.summary, intervals, report.table, columns, len(targets), name, model_name,
        judged, image, bad, note,
    )  # fmt: skip


def _open_gallery(
    gallery: datasets.Dataset,
    task: DownstreamTask,
    geometry: Geometry,
    args: DecodeArguments,
    name: str,
) -> Labelled:
    if not hasattr(task, "search"):
        raise InputError("--gallery-split: only re-identification searches a gallery")
    return open_labelled(
        gallery, task, geometry.canvas, args, name=f"{name} (gallery)", which="all", part="gallery"
    )


def write_record(folder: Path, record: dict[str, Any], bad: list[BadImages]) -> None:
    """Write ``metrics.json`` and the list of bad images.

    Args:
        folder: made if missing.
        record: what the file holds, beside bad images and versions.
        bad: the bad images that were left out, of each split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # of an earlier evaluation
    full = {**record, "bad_images": settle(folder, *bad), "versions": versions()}
    write_json(folder / "metrics.json", full)


def write_table(
    path: Path, columns: dict[str, list[Any]], split: datasets.Dataset, image: str
) -> None:
    """Write columns beside the split's own (without its images) as parquet, whole or not at all.

    Args:
        path: the file.
        columns: the columns to write, one list each; ``predicted_hat`` where ``hat`` is a label.
        split: the data set whose rows they belong to.
        image: its image column.
    """
    own_names = set(split.column_names) - {"row", image}
    columns = {f"predicted_{k}" if k in own_names else k: v for k, v in columns.items()}
    kept = [name for name in split.column_names if name != image and name not in columns]
    own = split.select_columns(kept).with_format("arrow")[:] if kept else pyarrow.table({})
    table = pyarrow.table({**dict(zip(kept, own.columns, strict=True)), **columns})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        pyarrow.parquet.write_table(table, draft)


def open_judged(
    dataset: str | None,
    split: str | None,
    image_column: str | None,
    *,
    people_in_names: bool = False,
    allow_urls: bool = False,
) -> tuple[datasets.Dataset, str]:
    """Open a split, and return it with its name for error messages.

    Raises:
        InputError: if no split is named and nothing is held out.
    """
    found, words = open_split(
        dataset, split, image_column, people_in_names=people_in_names, allow_urls=allow_urls
    )
    if found is None:
        raise InputError(f"{dataset or 'people'}: no crops are held out; name a --split")
    return found, f"{dataset or 'people'} ({words})"


def searched(
    dataset: str | None, image_column: str | None, *, allow_urls: bool = False
) -> tuple[str | None, str | None]:
    """Return ``query`` and ``gallery`` if there are both and no test split, else None twice."""
    splits = open_splits(dataset, image_column, people_in_names=True, allow_urls=allow_urls)
    if meant(splits, "test") is None and set(SEARCHED) <= set(splits):
        return SEARCHED
    return None, None

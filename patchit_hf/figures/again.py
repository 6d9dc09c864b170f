"""The figures of a finished run, drawn from what lies in its folder and from its crops."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json
from patchit_hf.common.layout import DONE_FILE, METRICS_FILE
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.source import load_crops, open_split
from patchit_hf.data.training_set import open_held_out
from patchit_hf.figures.arguments import FiguresArguments
from patchit_hf.figures.draw import draw_figures
from patchit_hf.figures.map import embedding_map, flat
from patchit_hf.figures.page import style
from patchit_hf.figures.search import nearest, neighbours, ranks
from patchit_hf.models.build import build_model
from patchit_hf.models.embed import STATISTICS_BATCH, Extractor
from patchit_hf.models.exported import locate
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.patch_task_model import PatchTaskModel

ROWS, NEAREST, RANKS = 6, 8, 10  # crops at the left, and images beside each
BATCH = 64


def draw_again(what: FiguresArguments) -> dict[str, Figure]:
    """Draw the figures of a finished run.

    Args:
        what: which run, with which crops, and in which style.

    Returns:
        The figures by name.

    Raises:
        InputError: for a folder without a finished run, or crops that cannot be read.
    """
    location = locate(what.run)
    record = read_json(location.fetch(DONE_FILE) / DONE_FILE)
    with style(what.style):
        if "downstream" in record:
            return _finetuned(what, FinetunedModel.from_pretrained(what.run), record)
        model = PatchTaskModel.from_pretrained(what.run)
        return _pretrained(what, model, record, _history(location))


def _history(location: Any) -> list[dict[str, Any]]:
    try:
        text = (location.fetch(METRICS_FILE) / METRICS_FILE).read_text(encoding="utf-8")
    except InputError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _pretrained(
    what: FiguresArguments, model: PatchTaskModel, record: dict[str, Any], history: Any
) -> dict[str, Figure]:
    task: Any = model.task
    crops = _crops(what, record, task.canvas)
    figures = draw_figures(
        task,
        model,
        crops,
        confusion=confusion_of(model, crops),
        entries=history,
        baselines=(record.get("audit") or {}).get("baselines", {}),
    )
    extractors = {"after pretraining": model.extractor()}
    if record.get("initial_weights") is None:
        seed = int(record.get("config", {}).get("seed", 42))
        before = build_model(model.spec.name, task, seed, model.spec.args)
        extractors = {"before, random weights": before.eval().extractor(), **extractors}
    return figures | _alike(what, crops, extractors)


def _finetuned(
    what: FiguresArguments, model: FinetunedModel, record: dict[str, Any]
) -> dict[str, Figure]:
    crops = _crops(what, record, model.geometry.canvas)
    figures = _alike(what, crops, {"after finetuning": model.extractor()})
    if record["downstream"]["task"] == "reid":
        figures["ranks"] = _ranks(what, model, record)
    return figures


def confusion_of(model: PatchTaskModel, crops: Tensor) -> Tensor:
    """Return the counts of answers to the questions of an evaluation, true by given ``[C, C]``."""
    task: Any = model.task
    counts = torch.zeros(task.num_classes, task.num_classes, dtype=torch.int64)
    with torch.inference_mode():
        for numbers in torch.arange(len(crops)).split(BATCH):
            batch = task.sample_all(crops[numbers], Draws(EVAL_SEED, numbers, "cpu"))
            answered, truth = task.answers(model(batch.inputs)), task.truth(batch.targets)
            counts.index_put_(
                (truth.flatten(), answered.flatten()), torch.tensor(1), accumulate=True
            )
    return counts


def _alike(
    what: FiguresArguments, crops: Tensor, extractors: dict[str, Extractor]
) -> dict[str, Figure]:
    """Draw neighbours by each of several backbones, and a map by the last."""
    shown = min(ROWS // len(extractors), len(crops))
    rows = torch.linspace(0, len(crops) - 1, shown).round().long().tolist()
    same = np.arange(len(crops))[None] == np.array(rows)[:, None]
    found, vectors = {}, np.zeros((0, 0))
    for name, extractor in extractors.items():
        parts = [part for part in crops.split(STATISTICS_BATCH) if len(part) > 1]
        vectors = extractor.reestimated(parts)(crops.split(BATCH)).numpy()
        count = min(NEAREST, len(crops) - 1)
        found[name] = nearest(vectors[rows], vectors, count, same)
    return {
        "neighbours": neighbours(crops, rows, found),
        "map": embedding_map(crops, flat(vectors, what.map), what.map),
    }


def _ranks(what: FiguresArguments, model: FinetunedModel, record: dict[str, Any]) -> Figure:
    """Draw whom a re-identification model finds for people that it has not seen."""
    dataset, split = _data(what, record)
    labelled, name = open_split(dataset, split, what.image_column)
    if labelled is None or "person_id" not in labelled.column_names:
        raise InputError(f"{dataset or 'people'}: re-id ranks need a column person_id")
    labelled = labelled.select(range(min(len(labelled), what.count)))
    people = np.array(list(map(str, labelled["person_id"])))
    seen = open_held_out(
        labelled, _how(what, model.fit), model.geometry.canvas, name=name, limit=len(labelled)
    )
    if seen is None or len(seen.crops) != len(people):
        raise InputError(f"{name}: has bad images; re-id ranks need every image")
    with torch.inference_mode():
        parts = [
            model.answers(part, model.task, model.geometry)[0] for part in seen.crops.split(BATCH)
        ]
    vectors = torch.cat(parts).numpy()
    cameras = labelled["camera"] if "camera" in labelled.column_names else None
    excluded = passed_over(people, cameras)
    alike = people[None] == people[:, None]
    chosen = np.flatnonzero((alike & ~excluded).any(1))
    if not len(chosen):
        raise InputError(f"{name}: nobody is there twice; re-id ranks need several images each")
    rows = chosen[np.linspace(0, len(chosen) - 1, min(ROWS, len(chosen))).round().astype(int)]
    found = nearest(vectors[rows], vectors, min(RANKS, len(people) - 1), excluded[rows])
    right = people[found] == people[rows][:, None]
    return ranks(seen.crops[torch.from_numpy(rows)], seen.crops, found, right)


def passed_over(people: NDArray[Any], cameras: Sequence[Any] | None) -> NDArray[np.bool_]:
    """Return which images are no answer for which query, bool ``[N, N]``.

    The query itself is none, nor, as Market-1501 counts, the same person seen by the same camera,
    where anybody is seen by several.

    Example:
        >>> passed_over(np.array(["a", "a", "b"]), [1, 2, 1]).astype(int).tolist()
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> passed_over(np.array(["a", "a", "a"]), [1, 1, 2])[0].tolist()
        [True, True, False]
    """
    itself = np.eye(len(people), dtype=bool)
    if cameras is None:
        return itself
    there = np.array(list(map(str, cameras)))
    same = people[None] == people[:, None]
    twice: NDArray[np.bool_] = itself | (same & (there[None] == there[:, None]))
    return twice if (same & ~twice).any() else itself


def _crops(what: FiguresArguments, record: dict[str, Any], canvas: tuple[int, int]) -> Tensor:
    """Return held-out crops on a canvas, uint8 ``[N, 3, H, W]``."""
    dataset, split = _data(what, record)
    fit = str(record.get("config", {}).get("fit", "squash"))
    if split is not None and what.split is not None:
        chosen: Any = open_split(dataset, split, what.image_column)[0]
    else:
        chosen = load_crops(dataset, split=split, image_column=what.image_column).held_out
    held_out = open_held_out(
        chosen, _how(what, fit), canvas, name=f"{dataset or 'people'} (held out)", limit=what.count
    )
    if held_out is None or len(held_out.crops) < 3:
        raise InputError(f"{dataset or 'people'}: fewer than 3 crops are held out; name a --split")
    return held_out.crops


def _data(what: FiguresArguments, record: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return data set and split: those of the arguments, else those of the run."""
    if what.dataset is not None:
        return what.dataset, what.split
    config = record.get("config", {})
    name = config.get("dataset")
    return (None if name == "people" else name), what.split or config.get("split")


def _how(what: FiguresArguments, fit: str) -> DecodeArguments:
    names = [item.name for item in dataclasses.fields(DecodeArguments)]
    return DecodeArguments(**{**{name: getattr(what, name) for name in names}, "fit": fit})

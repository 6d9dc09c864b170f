"""Evaluate a model on a labelled split: ``python -m patchit_hf.evaluate FOLDER``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchit_hf.common import cli
from patchit_hf.common.console import guarded, say
from patchit_hf.evaluate.arguments import EvaluateArguments
from patchit_hf.metrics.names import short_name

if TYPE_CHECKING:
    from patchit_hf.data.bad import BadImages

DESCRIPTION = """\
Evaluate a finetuned model on a labelled split, or frozen features with a probe.

  python -m patchit_hf.evaluate runs/attributes-people --dataset ... --split test
  python -m patchit_hf.evaluate runs/reid-peta --dataset OTHER        re-id across data sets
  python -m patchit_hf.evaluate FOLDER --probe knn,linear --column hat
  python -m patchit_hf.evaluate FOLDER --embed embeddings.parquet"""


def run(argv: list[str] | None = None) -> int:
    """Evaluate as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    (what,) = cli.parse(DESCRIPTION, argv, EvaluateArguments, prog="patchit_hf.evaluate")
    if what.probe:
        return _probe(what)
    if what.embed:
        return _embed(what)
    return _score(what)


def _score(what: EvaluateArguments) -> int:
    from patchit_hf.data.columns import find_image_column
    from patchit_hf.evaluate.scores import open_judged, score, write_table
    from patchit_hf.models.finetuned_model import FinetunedModel
    from patchit_hf.training.accelerator import device

    model = FinetunedModel.from_pretrained(what.model).to(device())
    args = dataclasses.replace(what.decode, fit=what.fit or model.fit)
    split, name = open_judged(what.dataset, what.split, what.image_column)
    gallery = None
    if what.gallery_split is not None:
        gallery, _ = open_judged(what.dataset, what.gallery_split, what.image_column)
    scores = score(model, split, args, name=name, gallery=gallery, samples=what.bootstrap)
    chosen_on = model.record["data"]
    if what.split is None and (what.dataset or "people") == chosen_on.get("name"):
        if chosen_on.get("validated_on") and chosen_on["validated_on"] in name:
            say("note: the weights were chosen on these crops; a test split is a fairer measure")
    folder = _output(what)
    image = find_image_column(split, what.image_column, name)
    judged = split.select(scores.columns["row"])
    write_table(folder / "predictions.parquet", scores.columns, judged, image)
    _write(folder, what, {"data": name, **scores.as_json()}, scores.bad)
    for line in lines(scores.figures):
        say(line)
    say(f"{folder}: metrics.json, predictions.parquet")
    return 0


def _probe(what: EvaluateArguments) -> int:
    from patchit_hf.data.source import load_crops
    from patchit_hf.evaluate.scores import open_extractor, open_judged, probe_column
    from patchit_hf.finetune.build import parse_size

    size = parse_size(what.input_size) if what.input_size else None
    extractor = open_extractor(what.model, what.backbone, size)
    crops = load_crops(what.dataset, split=what.train_split, image_column=what.image_column)
    test, name = open_judged(what.dataset, what.split, what.image_column)
    values, bad = probe_column(
        extractor,
        crops.train,
        test,
        str(what.column),
        what.kinds,
        what.decode,
        reestimate=what.reestimate_batch_norm,
    )
    figures = {f"{kind}_balanced_accuracy": {"value": v} for kind, v in values.items()}
    folder = _output(what)
    record = {"data": name, "column": what.column, "figures": figures}
    _write(folder, what, record, bad)
    for line in lines(figures):
        say(f"{what.column}: {line}")
    say(f"{folder}: metrics.json")
    return 0


def _embed(what: EvaluateArguments) -> int:
    from patchit_hf.data.columns import find_image_column
    from patchit_hf.evaluate.scores import open_extractor, open_judged, write_table
    from patchit_hf.finetune.build import parse_size
    from patchit_hf.finetune.labelled import open_crops_of
    from patchit_hf.models.backbone import has_batch_norm

    size = parse_size(what.input_size) if what.input_size else None
    extractor = open_extractor(what.model, what.backbone, size)
    split, name = open_judged(what.dataset, what.split, what.image_column)
    data = open_crops_of(split, extractor.geometry.canvas, what.decode, name)
    if what.reestimate_batch_norm and has_batch_norm(extractor.backbone):
        extractor.reestimate(data)
    features = extractor(data)
    file = Path(str(what.embed))
    image = find_image_column(split, what.image_column, name)
    rows = data.split_rows.tolist()
    write_table(file, {"row": rows, "embedding": features.tolist()}, split.select(rows), image)
    say(f"{file}: {len(features)} embeddings with {features.shape[1]} dimensions")
    return 0


def lines(figures: dict[str, dict[str, float]]) -> list[str]:
    """Return one line per metric, with its interval.

    Example:
        >>> lines({"rank1": {"value": 0.5, "low": 0.4, "high": 0.6}})
        ['rank-1   50.0 %  (40.0 to 60.0)']
    """
    width = max((len(short_name(key)) for key in figures), default=0)
    found = []
    for key, entry in figures.items():
        name = short_name(key)
        line = f"{name:{width}}  {100 * entry['value']:5.1f} %" if "value" in entry else name
        if "low" in entry:
            line += f"  ({100 * entry['low']:.1f} to {100 * entry['high']:.1f})"
        found.append(line)
    return found


def _output(what: EvaluateArguments) -> Path:
    if what.output_dir is not None:
        return Path(what.output_dir)
    folder = Path(what.model)
    data = Path(what.dataset).name if what.dataset else "people"
    words = "-".join(w for w in (data, what.split, what.column) if w)
    if not folder.is_dir():
        return Path("runs") / "evaluation" / words
    return folder / "evaluation" / words


def _write(
    folder: Path, what: EvaluateArguments, record: dict[str, Any], bad: list[BadImages]
) -> None:
    from patchit_hf.common.files import write_json
    from patchit_hf.common.provenance import command, versions
    from patchit_hf.data.bad import MANIFEST, settle

    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # left by an earlier evaluation
    about = {"bad_images": settle(folder, *bad), "command": command(), "versions": versions()}
    full = {"model": what.model, **record, **about}
    write_json(folder / "metrics.json", full)


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input is one line on stderr and exit code 2."""
    return guarded(run, argv, "repeat the command to start over")

"""Evaluate a model on a labelled split: ``patchit evaluate FOLDER``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchit_hf.common import cli
from patchit_hf.common.arguments import stated
from patchit_hf.common.config import write_args
from patchit_hf.common.console import as_command, say
from patchit_hf.evaluate.arguments import EvaluateArguments
from patchit_hf.models.names import check_backbone

DESCRIPTION = """\
Evaluate a finetuned model on a labelled split, or frozen features with a probe.

  patchit evaluate runs/attributes-people --dataset ... --split test
  patchit evaluate runs/reid-peta --dataset OTHER        re-id across data sets
  patchit evaluate FOLDER --probe knn,linear --column hat
  patchit evaluate FOLDER --embed embeddings.parquet"""
ARGUMENTS = (EvaluateArguments,)
PROG = "patchit evaluate"


def run(argv: list[str] | None = None) -> int:
    """Evaluate as the arguments say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    (what,) = cli.parse(DESCRIPTION, argv, *ARGUMENTS, prog=PROG)
    check_backbone(what.backbone)
    from patchit_hf.common.progress import Progress

    with Progress("importing torch"):
        import patchit_hf.evaluate.evaluation  # noqa: F401
    with Progress("evaluating"):
        if what.probe:
            return _probe(what)
        if what.embed:
            return _embed(what)
        return _score(what)


def _score(what: EvaluateArguments) -> int:
    from patchit_hf.common.provenance import command
    from patchit_hf.evaluate.evaluation import evaluate

    result = evaluate(
        what.model,
        what.dataset,
        split=what.split,
        gallery=what.gallery_split,
        joints=what.joints or None,
        bootstrap=what.bootstrap,
        image_column=what.image_column,
        fit=what.fit,
        on_bad_image=what.on_bad_image,
        crop_cache_gb=what.crop_cache_gb,
        verify_cache=what.verify_cache,
        dataloader_num_workers=what.dataloader_num_workers,
        allow_urls=what.allow_urls,
    )
    if result.note:
        say(f"note: {result.note}")
    folder = result.save(_output(what), command=command())
    write_args(folder, stated(what), PROG)
    for line in lines(result.as_json()["figures"]):
        say(line)
    say(f"{folder}: metrics.json, predictions.parquet")
    return 0


def _probe(what: EvaluateArguments) -> int:
    from patchit_hf.common.provenance import command
    from patchit_hf.data.source import load_crops
    from patchit_hf.evaluate.features import open_extractor, probe_column
    from patchit_hf.evaluate.scores import open_judged, write_record
    from patchit_hf.finetune.build import parse_size

    size = parse_size(what.input_size) if what.input_size else None
    extractor = open_extractor(what.model, what.backbone, size)
    how: Any = {"image_column": what.image_column, "allow_urls": what.allow_urls}
    crops = load_crops(what.dataset, split=what.train_split, **how)
    test, name = open_judged(what.dataset, what.split, **how)
    values, bad = probe_column(
        extractor,
        crops.train,
        test,
        str(what.column),
        what.kinds,
        what.decode(extractor.fit),
        reestimate=what.reestimate_batch_norm,
    )
    figures = {f"{kind}_balanced_accuracy": {"value": v} for kind, v in values.items()}
    folder = _output(what)
    record = {"model": what.model, "data": name, "column": what.column, "figures": figures}
    write_record(folder, {**record, "command": command()}, bad)
    write_args(folder, stated(what), PROG)
    for line in lines(figures):
        say(f"{what.column}: {line}")
    say(f"{folder}: metrics.json")
    return 0


def _embed(what: EvaluateArguments) -> int:
    from patchit_hf.data.source import open_splits
    from patchit_hf.data.split_names import choose_split
    from patchit_hf.evaluate.embeddings import embed_splits
    from patchit_hf.evaluate.features import open_extractor
    from patchit_hf.finetune.build import parse_size

    size = parse_size(what.input_size) if what.input_size else None
    extractor = open_extractor(what.model, what.backbone, size)
    name, folder = what.dataset or "people", Path(what.dataset or "").expanduser()
    splits = open_splits(what.dataset, what.image_column, allow_urls=what.allow_urls)
    if what.split is not None:
        chosen = choose_split(splits, what.split, name)
        splits, name = {chosen: splits[chosen]}, f"{name} ({chosen} split)"
    found = embed_splits(
        extractor,
        splits,
        what.decode(extractor.fit),
        name=name,
        folder=folder.resolve() if what.dataset and folder.exists() else None,
        reestimate=what.reestimate_batch_norm,
    )
    files = found.write(Path(str(what.embed)))
    count, length = found.vectors.shape
    shown = ", ".join(splits)
    say(f"{', '.join(map(str, files))}: {count} embeddings with {length} dimensions ({shown})")
    return 0


def lines(figures: dict[str, dict[str, float]]) -> list[str]:
    """Return one line per metric, with its interval.

    Example:
        >>> lines({"rank1": {"value": 0.5, "low": 0.4, "high": 0.6}})
        ['rank-1   50.0 %  (40.0 to 60.0)']
    """
    from patchit_hf.metrics.names import short_name

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


main = as_command(run, "repeat the command to start over")

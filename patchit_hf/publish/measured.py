"""What weights were worth in a comparison, for their record and their card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.files import read_json
from patchit_hf.common.layout import COMPARISON_FILE
from patchit_hf.common.markdown import Markdown, command_without_folders, render, without_folders
from patchit_hf.metrics.names import difference_text, long_name, mean_text, short_name
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.models.origin import fingerprint
from patchit_hf.models.weights_fit import backbone_state

PIPELINE_TAGS = {"attributes": "image-classification", "action": "image-classification"}
FEATURES_TAG = "image-feature-extraction"  # of the other tasks
_KEPT = ("fraction", "labels", "mean", "deviation", "learning_rate")
_TEMPLATE = """\
## What these weights were worth

Finetuned with one budget from them and from others (`patchit compare`):

| task and test crops | labels | from | {{ metrics }} | difference (95 %) | seeds | learning rate |
|---|---|---|---|---|---|---|
{% for row in rows %}
| {{ row.what }} | {{ row.labels }} | {{ row.start }} | {{ row.value }} | {{ row.difference }} | {{ row.seeds }} | {{ row.rate }} |
{% endfor %}

{{ commands | join("\n") | fenced("bash") }}
"""  # noqa: E501 - a row of a table


def measured_in(folder: Path, export: Path) -> dict[str, Any]:
    """Return what a comparison says of the weights of an export.

    Args:
        folder: of ``patchit compare``.
        export: the export's.

    Returns:
        JSON values for ``patchit.json``: task, data, test split, metric, what differences are to,
        command, and ``rows``: for each share of the labels these weights (``own``) and those that
        they are compared with. Names of folders are without the way to them.

    Raises:
        InputError: if there is no comparison, or these weights are not in it.
    """
    file = folder / COMPARISON_FILE
    if not file.is_file():
        raise InputError(f"--compare {str(folder)!r}: no comparison (no {COMPARISON_FILE} in it)")
    found = read_json(file)
    try:
        return _measured(found, export, str(folder))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"--compare {str(folder)!r}: {COMPARISON_FILE} is damaged, or of an older version: "
            f"{type(error).__name__}: {one_line(error)}; run `patchit compare` again, which "
            "repeats no finetuning"
        ) from error


def _measured(found: dict[str, Any], export: Path, where: str) -> dict[str, Any]:
    starts: dict[str, str | None] = found["initial_weights"]
    weights = fingerprint_at(export, found["input_size"])
    own = [name for name, fingerprint in starts.items() if fingerprint == weights]
    if not own:
        raise InputError(
            f"--compare {where!r}: was not of these weights; it began with {', '.join(starts)}"
        )
    against = found["against"]
    rows = [
        {
            "own": row["contender"] in own,
            **{name: row[name] for name in _KEPT},
            "seeds": len(row["seeds"]),
            "difference": row.get("difference"),
            "interval": row.get("interval"),
        }
        for row in found["rows"]
        if row["contender"] in (own[0], against)
    ]
    if not any(row["own"] for row in rows):
        raise KeyError(own[0])  # named, and without a row
    return {
        "task": found["task"],
        "dataset": without_folders(found["dataset"]),
        "test": without_folders(found["test"]),
        "metric": found["primary_metric"],
        "against": without_folders(against),
        "command": command_without_folders(found.get("command") or ""),
        "rows": rows,
    }


def fingerprint_at(export: Path, size: list[int]) -> str:
    """Return the fingerprint of an export's weights, as finetuning from them records it.

    Args:
        export: its folder.
        size: height and width of the inputs, to which some networks bring their weights.
    """
    height, width = size
    opened = open_initial(str(export), None, 0, input_size=(height, width))
    return fingerprint(backbone_state(opened.backbone))


def with_measured(record: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a record with further comparisons; one of the same things takes the earlier's place.

    Args:
        record: what ``patchit.json`` holds.
        entries: see ``measured_in``.
    """
    if not entries:
        return record
    kept = {_key(entry): entry for entry in [*record.get("measured", []), *entries]}
    return {**record, "measured": list(kept.values())}


def _key(entry: dict[str, Any]) -> tuple[str, ...]:
    return entry["task"], entry["dataset"], entry["test"], entry["against"]


def section(record: dict[str, Any]) -> Markdown:
    """Return the section of a card; empty where nothing was compared.

    Args:
        record: what ``patchit.json`` holds.
    """
    entries = record.get("measured", [])
    if not entries:
        return Markdown("")
    metrics = list(dict.fromkeys(short_name(entry["metric"]) for entry in entries))
    rows = [
        {
            "what": f"{entry['task']}, {entry['test']}",
            "labels": f"{row['labels']:,}",
            "start": Markdown("**these weights**") if row["own"] else entry["against"],
            "value": f"{short_name(entry['metric'])} " * (len(metrics) > 1) + mean_text(row),
            "difference": difference_text(row),
            "seeds": row["seeds"],
            "rate": f"{row['learning_rate']:g}",
        }
        for entry in entries
        for row in entry["rows"]
    ]
    commands = [entry["command"] or "# not recorded: called in Python" for entry in entries]
    head = metrics[0] if len(metrics) == 1 else "result"
    return Markdown(render(_TEMPLATE, metrics=head, rows=rows, commands=commands))


def for_the_hub(record: dict[str, Any]) -> list[EvalResult]:
    """Return the means of these weights with the most labels, as the Hub's metadata has them.

    Args:
        record: what ``patchit.json`` holds.
    """
    results = []
    for entry in record.get("measured", []):
        row = max((r for r in entry["rows"] if r["own"]), key=lambda r: r["labels"])
        results.append(
            EvalResult(
                task_type=PIPELINE_TAGS.get(entry["task"], FEATURES_TAG),
                task_name=f"{entry['task']}, after finetuning on {row['labels']:,} crops",
                dataset_type=entry["dataset"],
                dataset_name=entry["test"],
                metric_type=entry["metric"],
                metric_name=f"{long_name(entry['metric'])}, mean of {row['seeds']} seeds",
                metric_value=round(row["mean"], 4),
            )
        )
    return results

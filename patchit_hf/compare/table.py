"""The results of a comparison as a table and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchit_hf.common.files import write_json, write_text
from patchit_hf.common.layout import COMPARISON_FILE
from patchit_hf.metrics.names import difference_text, mean_text, short_name


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    metric = result["primary_metric"]
    others = [name for name in result["rows"][0]["figures"] if name != metric][:4]
    gap = any("gap_closed" in row for row in result["rows"])
    heads = ["labels", "init", short_name(metric), f"against {result['against']} (95 %)"]
    heads += ["gap closed"] if gap else []
    heads += [*map(short_name, others), "seeds", "learning rate"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in result["rows"]:
        cells = [
            f"{row['labels']:,}",
            row["contender"],
            mean_text(row),
            difference_text(row),
        ]
        if gap:
            share = row.get("gap_closed")
            cells.append("" if share is None else f"{100 * share:.0f} %")
        cells += [f"{100 * row['figures'][name]:.1f}" for name in others]
        cells += [str(len(row["seeds"])), f"{row['learning_rate']:g}"]
        lines.append("| " + " | ".join(cells) + " |")
    if result["at_the_edge"]:
        lines += [
            "",
            f"Best at an end of --learning-rates, so perhaps better beyond it: "
            f"{', '.join(result['at_the_edge'])}.",
        ]
    return "\n".join(lines) + "\n"


def write_results(folder: Path, result: dict[str, Any], head: dict[str, Any]) -> None:
    """Write ``compare.json``, which begins with the entries of ``head``, and ``compare.md``."""
    write_json(folder / COMPARISON_FILE, {**head, **result})
    write_text(folder / "compare.md", table(result))

"""The results of a comparison as a table and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchit_hf.common.files import write_json, write_text
from patchit_hf.common.layout import COMPARISON_FILE
from patchit_hf.metrics.names import short_name


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
        spread = f" ± {100 * row['deviation']:.1f}" if row["deviation"] is not None else ""
        against = ""
        if "difference" in row:
            against = f"{100 * row['difference']:+.1f}"
            if "interval" in row:
                low, high = row["interval"]
                against += f" ({100 * low:+.1f} to {100 * high:+.1f})"
        cells = [
            f"{row['labels']:,}",
            row["contender"],
            f"{100 * row['mean']:.1f}{spread}",
            against,
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

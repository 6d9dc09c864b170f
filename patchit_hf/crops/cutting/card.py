"""The report and the card of a data set of crops: the same numbers as JSON and as text."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from typing import Any

import pyarrow.parquet
import yaml

from patchit_hf.common import markdown
from patchit_hf.crops.cutting.plan import Plan
from patchit_hf.crops.cutting.select import REASONS, list_classes
from patchit_hf.crops.cutting.shards import Shards

SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"),
)  # fmt: skip
OUTSIDE = {
    "shift": "moved inwards, and shrunk if it was larger than the frame",
    "shrink": "shrunk about its centre",
    "drop": "dropped",
}
SUBJECTS = {
    "source": "a video, sequence or camera", "folder": "a folder of images", "image": "an image"
}  # fmt: skip


def make_report(shards: Shards, counts: dict[str, int], name: str) -> dict[str, Any]:
    """Return the report: how many boxes and images were used or dropped, and why.

    Args:
        shards: the data set, after ``gather``.
        counts: number of crops by split.
        name: name of the file of boxes, without its folder.
    """
    plan, parts = shards.plan, shards.parts
    dropped: Counter[str] = sum((part.dropped for part in parts), Counter())
    notes: Counter[str] = sum((part.notes for part in parts), Counter())
    kept = sum(counts.values())
    sources: dict[str, set[str]] = {split: set() for split in counts}
    for file in shards.gathered:
        column = pyarrow.parquet.read_table(file, columns=["source"])["source"]
        sources[file.name.rsplit("-", 3)[0]].update(column.unique().to_pylist())
    return {
        "detections": name,
        "format": plan.found.kind,
        "notes": list(plan.notes),
        "boxes": {
            "in_all": len(plan.found),
            "kept": kept,
            "dropped": sum(dropped.values()),
            "stand_ins": sum(len(part.stand_ins) for part in parts),
            "reasons": {reason: dropped[reason] for reason in REASONS if dropped[reason]},
            "classes": _other_classes(plan),
        },
        "splits": {
            split: {"crops": counts[split], "sources": len(sources[split])} for split in counts
        },
        "source_is": plan.by,
        "pictures": {
            "in_all": len(plan.files),
            "decoded": sum(part.pictures for part in parts),
            "bad": sum(part.bad for part in parts),
            "notes": dict(sorted(notes.items())),
        },
    }


def _other_classes(plan: Plan) -> dict[str, int]:
    """Return how many boxes each class had that is not a person, the most frequent first."""
    found = plan.found
    counts = Counter(found.label[plan.reasons == "class"].tolist())
    return {found.labels[label]: count for label, count in counts.most_common()}


def render_card(shards: Shards, report: dict[str, Any], about: dict[str, str]) -> str:
    """Return the data set's card as Markdown.

    Args:
        shards: the data set.
        report: what ``make_report`` returned.
        about: ``title``, ``license``, and ``of``, the origin of the images in the user's words.
    """
    kept = report["boxes"]["kept"]
    head = {
        "license": about["license"],
        "pretty_name": about["title"],
        "size_categories": [next((w for limit, w in SIZES if kept < limit), "n>1T")],
        "task_categories": ["image-feature-extraction"],
        "tags": ["person-crops", "pedestrians", "self-supervised", "patchit"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/{split}-*"} for split in report["splits"]
                ],
            }
        ],
    }
    template = files("patchit_hf.crops.cutting").joinpath("card.md.jinja").read_text("utf-8")
    return markdown.render(
        template,
        **report,
        about=about,
        options=shards.options,
        size=shards.options.size,
        columns=list(shards.features),
        outside=OUTSIDE[shards.options.outside],
        subject=SUBJECTS[report["source_is"]],
        words=REASONS,
        list_classes=list_classes,
        metadata=markdown.Markdown(
            yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()
        ),
    )

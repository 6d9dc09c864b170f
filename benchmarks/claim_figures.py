"""What claim.py computes from its records: who is held out, pairs, intervals, tables."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t as student

Key = tuple[int, ...]  # of a measurement: its seed, and for finetuned weights its draw of labels


@dataclass(frozen=True)
class Difference:
    """A difference of two starts over pairs of runs that share their seed and draw of labels.

    Attributes:
        pairs: the difference of each pair.
        mean: their mean.
        deviation: their standard deviation; None for one pair.
        interval: 95 % interval of the mean by Student's t; None for one pair.
    """

    pairs: tuple[float, ...]
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.interval is None or self.deviation is None:
            return f"{self.mean:+.1f}"
        low, high = self.interval
        return f"{self.mean:+.1f} ± {self.deviation:.1f} ({low:+.1f} to {high:+.1f})"


def known(person: object) -> bool:
    """Return whether a value of ``person_id`` names a person."""
    return person is not None and not (isinstance(person, int) and person < 0)


def held_out_persons(persons: Iterable[object], share: float = 0.15) -> set[object]:
    """Return the persons that a search is judged on, chosen by the hash of their names.

    The choice depends on nothing but the names, so that it is the same on every machine. Unknown
    persons are never chosen: they may be anybody's.

    Args:
        persons: the person of each crop.
        share: fraction of the persons, rounded to a whole number of them, but at least one.
    """
    names = {person for person in persons if known(person)}
    order = sorted(names, key=lambda name: hashlib.blake2b(str(name).encode()).digest())
    return set(order[: max(1, round(share * len(order)))])


def difference(one: Mapping[Key, float], other: Mapping[Key, float]) -> Difference | None:
    """Return the paired difference of two starts, over the keys that both have; None without any.

    A start that is the same for every seed, as weights from a file are before any finetuning, has
    one measurement, which is then the partner of all of the other's.

    Args:
        one: measurements by seed, or seed and draw.
        other: those that are subtracted.
    """
    keys = sorted(one.keys() & other.keys())
    if len(other) == 1 and len(one) > 1:
        (value,) = other.values()
        return spread([one[key] - value for key in sorted(one)])
    return spread([one[key] - other[key] for key in keys]) if keys else None


def spread(pairs: Sequence[float]) -> Difference:
    """Return mean, deviation and 95 % interval of differences.

    Pairs are taken as independent. Those of one draw of labels, or of one pretrained network, are
    not quite, so that the interval is rather too narrow than too wide.
    """
    mean = statistics.mean(pairs)
    if len(pairs) < 2:
        return Difference(tuple(pairs), mean, None, None)
    deviation = statistics.stdev(pairs)
    half = float(student.ppf(0.975, len(pairs) - 1)) * deviation / len(pairs) ** 0.5
    return Difference(tuple(pairs), mean, deviation, (mean - half, mean + half))


def by_key(records: Iterable[Mapping[str, Any]], metric: str) -> dict[str, dict[Key, float]]:
    """Return a metric in per cent, by start and then by key, of the records that have it."""
    found: dict[str, dict[Key, float]] = {}
    for record in records:
        value = record["metrics"].get(metric)
        if value is not None:
            asked = record["asked"]
            key = (asked["seed"], asked["draw"]) if "draw" in asked else (asked["seed"],)
            found.setdefault(asked["start"], {})[key] = 100 * value
    return found


METRICS = {
    "attributes_map": "attributes, mAP",
    "attributes-800_map": "attributes, 800 labels",
    "attributes-all_map": "attributes, all labels",
    "attributes-30-epochs_map": "attributes, 30 epochs",
    "reid_map": "re-identification, mAP",
    "reid_cameras_map": "re-identification, VIPeR, mAP",
    "reid-within_map": "re-identification within sources, mAP",
    "reid-within_cameras_map": "the same on VIPeR, mAP",
    "pose_pck": "pose, PCK",
    "action_accuracy": "action, top-1",
    "person_map": "same person, mAP",
    "person_rank1": "same person, rank 1",
    "cameras_map": "camera 1 to 2, mAP",
}


def table(records: Sequence[Mapping[str, Any]], starts: Sequence[str]) -> str:
    """Return the measurements of each start as Markdown: means, and each run's attributes.

    Args:
        records: those of pretraining, finetuning and retrieval.
        starts: the rows.
    """
    columns = {metric: by_key(records, metric) for metric in METRICS}
    shown = [metric for metric in METRICS if columns[metric]]
    heads = ["start", "pretraining, CPU-min", *(METRICS[metric] for metric in shown)]
    heads += ["attributes, each run"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for start in starts:
        minutes = [
            r["cpu_seconds"] / 60
            for r in records
            if r["asked"]["start"] == start and r["kind"] == "pretrain"
        ]
        cells = [start, f"{statistics.mean(minutes):.1f}" if minutes else ""]
        for metric in shown:
            values = list(columns[metric].get(start, {}).values())
            cells.append(f"{statistics.mean(values):.1f}" if values else "")
        each = columns["attributes_map"].get(start, {})
        cells.append(" / ".join(f"{each[key]:.1f}" for key in sorted(each)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(records: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[str, str]]) -> str:
    """Return paired differences as Markdown: mean ± deviation, with the 95 % interval of the mean.

    Args:
        records: those of finetuning and retrieval.
        pairs: a start, and the one that it is compared with.
    """
    lines = ["| difference | figure | mean ± s.d. (95 %) | pairs |", "|---|---|---|---|"]
    for one, other in pairs:
        for metric, name in METRICS.items():
            values = by_key(records, metric)
            found = difference(values.get(one, {}), values.get(other, {}))
            if found is not None:
                lines.append(f"| {one} - {other} | {name} | {found} | {len(found.pairs)} |")
    return "\n".join(lines) if len(lines) > 2 else ""

"""What was measured, in words: rates, where the time of a step goes, and what to change."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from patchit_hf.bench.bare import Turn
from patchit_hf.common.progress import duration

WORTH = 1.05  # times the speed, below which nothing need be changed
BUSY = 0.3  # cores used by others, from which on the result says so
SAME_TRAINING = "trains as before, but for rounding"
OTHER_TRAINING = "trains otherwise: compare the accuracy"


@dataclass(frozen=True)
class Report:
    """The result of a measurement.

    Attributes:
        backbone: the network's name.
        task: the task's name.
        data: name of the data set.
        hardware: in words.
        precision: as Accelerate names it.
        optim: timm's name of the optimiser.
        inputs: of the backbone, a step.
        crops: a step.
        turns: of each that was measured, by name.
        waited: seconds in which the trainer waited for inputs, in each of its turns.
        others: cores that other programs used meanwhile.
        changes: whether the training is another with each change, by its name among the turns.
        steps: of the planned run.
        asked: inputs of all its evaluations.
        threads: of a CPU, None elsewhere.
        versions: of the packages.
    """

    backbone: str
    task: str
    data: str
    hardware: str
    precision: str
    optim: str
    inputs: int
    crops: int
    turns: dict[str, list[Turn]]
    waited: list[float]
    others: float
    changes: dict[str, bool]
    steps: int
    asked: int
    threads: int | None
    versions: dict[str, str] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """Return the median of the items a second; 0 where that was not measured."""
        turns = self.turns.get(name)
        return statistics.median(turn.rate for turn in turns) if turns else 0.0

    def ratio(self, name: str, other: str) -> float:
        """Return the median of the ratios of two rates in the same round."""
        pairs = zip(self.turns[name], self.turns[other], strict=True)
        return statistics.median(a.rate / b.rate for a, b in pairs)

    @property
    def step(self) -> float:
        """Seconds of a step of the trainer."""
        return self.inputs / self.rate("trainer")

    def parts(self) -> dict[str, float]:
        """Return the seconds of each part of a step; together they are a step."""
        bare, rounds = self.turns["bare loop"], self.turns["trainer"]
        passes = [
            statistics.median(turn.parts[part] / turn.items * self.inputs for turn in bare)
            for part in range(3)
        ]
        waits = [
            wait / turn.items * self.inputs for wait, turn in zip(self.waited, rounds, strict=True)
        ]
        waiting, cutting = statistics.median(waits), self.inputs / self.rate("cutting")
        cutting = min(cutting, waiting)
        named = {"data": waiting - cutting, "cutting": cutting}
        named |= dict(zip(("forward", "backward", "optimiser"), passes, strict=True))
        return {**named, "the rest": max(0.0, self.step - sum(named.values()))}

    def limit(self) -> str:
        """Return what takes most of a step: data, cutting, the network, optimiser, or the rest."""
        parts = self.parts()
        parts["the network"] = parts.pop("forward") + parts.pop("backward")
        return max(parts, key=lambda name: parts[name])

    def gains(self) -> dict[str, float]:
        """Return how many times as fast the trainer would be with each change, by its name.

        A change saves what it saves in the bare loop, and no larger share than there; more workers
        save what the data take.
        """
        bare, step, found = self.inputs / self.rate("bare loop"), self.step, {}
        for name in self.changes:
            ratio = self.ratio(name, "bare loop")
            found[name] = step / max(step - (bare - bare / ratio), step / ratio)
        more = [name for name in self.turns if name.startswith("loader with")]
        for name in more:
            saved = self.parts()["data"] * (1 - 1 / self.ratio(name, "loader"))
            found["--workers, twice as many"] = step / (step - max(0.0, saved))
        return found

    def advice(self) -> tuple[str, float] | None:
        """Return one thing to change, and how many times as fast the trainer is then.

        Of those that leave the training what it is, the best; if none is worth it, of the others.
        """
        gains = self.gains()
        for otherwise in (False, True):
            among = {n: g for n, g in gains.items() if self.changes.get(n, False) == otherwise}
            best = max(among, key=lambda name: among[name], default=None)
            if best is not None and among[best] >= WORTH:
                return best, among[best]
        return None

    @property
    def planned(self) -> tuple[float, float]:
        """Seconds of the planned run's steps, and of its evaluations."""
        forward = self.parts()["forward"] / self.inputs
        return self.steps * self.step, self.asked * forward

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        training, evaluating = self.planned
        advised = self.advice()
        return {
            "backbone": self.backbone, "task": self.task, "data": self.data,
            "hardware": self.hardware, "precision": self.precision, "optimiser": self.optim,
            "threads": self.threads, "inputs_per_step": self.inputs,
            "per_second": {name: round(self.rate(name), 1) for name in self.turns},
            "rounds": {n: [round(t.rate, 1) for t in turns] for n, turns in self.turns.items()},
            "trainer_to_bare_loop": round(self.ratio("trainer", "bare loop"), 3),
            "seconds_per_step": round(self.step, 5),
            "parts_of_a_step": {n: round(s / self.step, 4) for n, s in self.parts().items()},
            "limit": self.limit(),
            "times_as_fast_with": {name: round(gain, 3) for name, gain in self.gains().items()},
            "advice": None if advised is None else advised[0],
            "planned": {
                "steps": self.steps, "training_seconds": round(training, 1),
                "evaluation_seconds": round(evaluating, 1),
                "device_hours": round((training + evaluating) / 3600 * (self.threads or 1), 3),
            },
            "cores_used_by_others": round(self.others, 2), "versions": self.versions,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return the result for the terminal."""
        share = self.ratio("trainer", "bare loop")
        rows = [
            f"{self.backbone}, {self.task} on {self.data}: {self.inputs} patches a step, "
            f"{self.hardware}, {self.precision.replace('no', 'float32')}, {self.optim}",
            f"  bare loop {self.rate('bare loop'):>10,.0f} patches/s",
            f"  trainer   {self.rate('trainer'):>10,.0f} patches/s, {share:.2f} of the bare loop",
            f"  cutting   {self.rate('cutting'):>10,.0f} patches/s",
            f"  loader    {self.rate('loader'):>10,.0f} crops/s",
        ]
        if "decoder" in self.turns:
            rows.append(f"  decoder   {self.rate('decoder'):>10,.0f} crops/s on one core")
        parts = ", ".join(f"{name} {part / self.step:.0%}" for name, part in self.parts().items())
        rows.append(f"a step of {self.step:.3f} s: {parts}")
        rows.append(f"limit: {self.limit()}")
        return [*rows, self._advice_line(), *self._plan_lines()]

    def _advice_line(self) -> str:
        advised = self.advice()
        if advised is None:
            tried = ", ".join(self.gains())
            return f"change nothing: no other setting is {WORTH - 1:.0%} faster (tried: {tried})"
        name, gain = advised
        what = OTHER_TRAINING if self.changes.get(name) else SAME_TRAINING
        return f"change: {name}, {gain:.2f} times as fast as measured here ({what})"

    def _plan_lines(self) -> list[str]:
        training, evaluating = self.planned
        unit = "device" if self.threads is None else "core"
        hours = (training + evaluating) / 3600 * (self.threads or 1)
        lines = [
            f"planned run: {self.steps:,} steps in {duration(training)}, evaluations in "
            f"{duration(evaluating)}; {hours:.2f} {unit}-hours"
        ]
        if self.others >= BUSY:
            lines.append(
                f"other programs used {self.others:.1f} cores meanwhile: on a quiet machine it is "
                "faster"
            )
        return lines

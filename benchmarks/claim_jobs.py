"""The runs behind claim.py: in processes of their own, with a record of each."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claim_plan import IMAGENET, RANDOM, STARTS, origin

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import read_json, write_json
from patchit_hf.common.layout import BACKBONE_FILE
from patchit_hf.common.provenance import versions
from patchit_hf.data.source import open_split

AS_THEY_ARE = (RANDOM, IMAGENET)  # starts that nothing is pretrained for
_git = threading.Lock()


@dataclass(frozen=True)
class Bench:
    """How starts are pretrained, finetuned and judged.

    Attributes:
        backbone: timm's name.
        data: crops with a train split, and the one that judges.
        split: the split that judges.
        cameras: crops of persons that two cameras saw; None where they are not to be seen yet.
        others: folders of ``claim_plan.DATA``.
        imagenet: a file of ImageNet's weights.
        name: what the records are called after.
        work: folder of weights and logs.
        results: folder of records.
        size: height x width of crops.
        labels: labelled crops of a draw.
        epochs: of finetuning.
        steps: of every pretraining; None for those of the plan.
        threads: of each run.
        commit: whether each record is committed.
        precision: of pretraining and finetuning.
    """

    backbone: str
    data: str
    split: str
    cameras: str | None
    imagenet: str
    name: str
    work: Path
    results: Path
    size: str = "128x64"
    labels: int = 1600
    epochs: int = 10
    steps: int | None = None
    threads: int = 1
    commit: bool = False
    precision: str = "no"
    others: dict[str, str] = field(default_factory=dict)

    @property
    def exactly(self) -> str:
        """The option that says the precision, if it is not the usual one."""
        return "" if self.precision == "no" else f" --mixed-precision {self.precision}"

    @property
    def trained_on(self) -> str:
        """What weights are called after: the crops that they are pretrained on."""
        return self.name.removeprefix("quick-")

    def fraction(self, labels: int) -> float:
        """Return the share of the training crops that some labelled ones are.

        Raises:
            InputError: if there are not that many.
        """
        crops = _crops(self.data)
        if not 0 < labels < crops:
            raise InputError(f"--labels {labels}: must be above 0 and below {crops}")
        return labels / crops

    def folder(self, start: str, seed: int) -> Path:
        """Return the folder of a start's weights; an average is the same for every seed."""
        start = origin(start)
        name = f"{self.trained_on}-{self.backbone}-{start}"
        return self.work / "weights" / (name if STARTS[start].average else f"{name}-seed{seed}")

    def source(self, start: str, seed: int) -> list[str]:
        """Return a start as the value of ``--init``, and what has to follow it."""
        start = origin(start)
        if start in AS_THEY_ARE:
            init = "random" if start == RANDOM else self.imagenet
            return [init, "--backbone", self.backbone]
        folder = self.folder(start, seed)
        if STARTS[start].script:
            return [str(folder / BACKBONE_FILE), "--backbone", self.backbone]
        return [str(folder)]


@dataclass(frozen=True)
class Job:
    """One run: its commands, and where its record goes.

    Attributes:
        bench: how it is carried out.
        kind: ``pretrain``, ``average``, ``finetune`` or ``retrieval``.
        name: of the record.
        asked: what decides the result, whatever the machine and its folders.
        commands: after ``python``.
        outputs: the JSON files that they leave, by what their metrics begin with.
        folder: the folder that they make, with the weights; None for none.
        needs: runs whose weights it begins with.
    """

    bench: Bench
    kind: str
    name: str
    asked: dict[str, Any]
    commands: list[list[str]]
    outputs: dict[str, Path]
    folder: Path | None
    needs: list[Job] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """The file that is there once the run has ended."""
        return list(self.outputs.values())[-1]

    @property
    def file(self) -> Path:
        """The record."""
        return self.bench.results / f"{self.name}.json"

    @property
    def depth(self) -> int:
        """How many runs have to come before it, one after the other."""
        return 1 + max((job.depth for job in self.needs), default=-1)

    def recorded(self) -> bool:
        """Return whether the run has a record.

        Raises:
            InputError: if the record is of a run that was asked for something else.
        """
        if not self.file.exists():
            return False
        known = read_json(self.file)["asked"]
        for key in sorted(known.keys() | self.asked.keys()):
            if known.get(key) != self.asked.get(key):
                raise InputError(
                    f"{self.file}: was recorded with {key}={known.get(key)!r}, not "
                    f"{self.asked.get(key)!r}; give the start another name, or use other --results"
                )
        return True

    def run(self) -> None:
        """Run the commands and write the record; a record that there is stays as it is.

        Raises:
            InputError: if a command fails.
        """
        if self.folder is not None:  # of an interrupted run: what is measured begins anew
            shutil.rmtree(self.folder, ignore_errors=True)
        begun = time.perf_counter()
        cpu = sum(self._process(words) for words in self.commands)
        if self.recorded():
            return
        found = {begin: read_json(file) for begin, file in self.outputs.items()}
        metrics = {
            f"{begin}{key}": value
            for begin, values in found.items()
            for key, value in _METRICS[self.kind](values).items()
        }
        record = {
            "kind": self.kind,
            "bench": self.bench.name if self.kind == "finetune" else self.bench.trained_on,
            "asked": self.asked,
            "commands": [shlex.join(["python", *words]) for words in self.commands],
            "metrics": metrics,
            **average_precisions(found),
            "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(cpu, 1),
            "machine": machine(self.bench.threads),
            "versions": versions(),
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, record)
        if self.bench.commit:
            with _git:
                message = f"bench(claim): {self.name}"
                subprocess.run(["git", "add", str(self.file)], check=True)
                subprocess.run(
                    ["git", "commit", "-q", "-m", message, "--", str(self.file)], check=True
                )

    def _process(self, words: list[str]) -> float:
        """Run one command, its output into a log; return its and its children's CPU-seconds."""
        log = self.bench.work / "logs" / f"{self.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = str(self.bench.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        sys.stderr.write(f"{self.name}: {shlex.join(['python', *words])}\n")
        with log.open("a", encoding="utf-8") as out:
            started = subprocess.Popen(
                [sys.executable, *words], stdout=out, stderr=out, env=environment
            )
            _, status, used = os.wait4(started.pid, 0)
            started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            lines = log.read_text(encoding="utf-8").strip().splitlines() or ["no output"]
            raise InputError(f"{self.name}: failed ({log}): {lines[-1]}")
        return used.ru_utime + used.ru_stime


@functools.cache
def _crops(data: str) -> int:
    return len(open_split(data, "train")[0])


def same_for_every_seed(start: str) -> bool:
    """Return whether a start's weights do not depend on the seed of finetuning."""
    return origin(start) in AS_THEY_ARE or bool(STARTS[start].average)


def layers(jobs: Iterable[Job]) -> list[list[Job]]:
    """Return the runs that have no record, in groups that come one after the other.

    A pretraining that is recorded is repeated only if its weights are gone and are needed.
    """
    wanted: dict[str, Job] = {}

    def want(job: Job) -> None:
        wanted[job.name] = job
        for other in job.needs:
            if not other.output.exists() or not other.recorded():
                want(other)

    for job in jobs:
        if not job.recorded():
            want(job)
    depths = sorted({job.depth for job in wanted.values()})
    return [[job for job in wanted.values() if job.depth == depth] for depth in depths]


def machine(threads: int) -> dict[str, Any]:
    """Return what a run was computed on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"processor": processor, "cores": os.cpu_count(), "threads": threads}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in values.items() if isinstance(value, int | float)}


def _judged(found: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of an evaluation, or of the one that ended a finetuning."""
    values = {key: entry["value"] for key, entry in found.get("figures", {}).items()}
    for key, value in _numbers(found.get("results", {})).items():
        if key.startswith("eval_"):
            values[key.removeprefix("eval_")] = value
    return values


def average_precisions(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the average precision of each attribute, if there is an evaluation of attributes."""
    tables = [values.get("table", []) for values in found.values()]
    each = {row["attribute"]: row["ap"] for rows in tables for row in rows if "attribute" in row}
    return {"ap": each} if each else {}


_METRICS = {
    "pretrain": lambda found: _numbers(found["results"]),
    "average": lambda found: {},
    "finetune": _judged,
    "retrieval": _numbers,
}

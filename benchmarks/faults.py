"""What a run does when something goes wrong: for each fault, what the user sees, and what is lost.

Each fault is provoked with the real command (its ``main`` with its arguments, in a fork of a
process that has imported everything; see ``tests/forked.py``). Then the same command is started
again without the fault, and the end is compared with that of an uninterrupted run. Full disks and
read-only folders are small file systems in memory, which need root; without it, these rows say so.

    OMP_NUM_THREADS=1 python benchmarks/faults.py --output benchmarks/results/faults.json

A table is written beside the JSON, with the ending ``.md``. Exit code 1 means that a row has a
traceback, or ended otherwise than the uninterrupted run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import fault_cases  # noqa: E402
import fault_data  # noqa: E402
import fault_files  # noqa: E402
import fault_several  # noqa: E402
from fault_base import REFERENCES, Case  # noqa: E402

from patchit_hf.common.provenance import versions  # noqa: E402
from patchit_hf.training.checkpoint import DamagedError, check, checkpoints  # noqa: E402
from tests.forked import Server  # noqa: E402
from tests.kill import PRETRAIN, is_draft  # noqa: E402

USUAL = re.compile(
    r"^[\s\x1b\[A-Z]*$|^WARNING chance: |\d+%\||it/s|\?/s|: held-out accuracy |: validation |"
    r"^load it: |continuing after step|"
    r"^(importing|opening|decoding|building|finding|measuring|drawing|writing)\b.*: [\d.]+ m?s|"
    r"^(data|network|task|device|run): |^about .* for .* steps more|"
    r"^(fine)?(training|tuning): .* (patches|crops)|"
    r"^the task's gradient|^no shortcut audit|^\S+ crops \(|this run is finished"
)
SHORT = "--max-steps 6 --batch-size 16 --save-every 2 --save-limit 3 --eval-every 3".split()


@dataclass
class Scene:
    """One fault: a folder of its own, and what its starts have shown.

    Attributes:
        server: starts commands.
        work: the folder; the run is ``run`` in it, unless the case says otherwise.
        words: the command; a case may replace it.
        code: exit code of the last start.
        said: lines of the last start that a usual run does not show.
        how: what every start of this case gets, such as its cache.
        output: the run's folder, if it is another one than ``run``.
        data: the data set, if it is another one than the server's.
        whole: the weights that the end is compared with, if they are other than the reference's.
        seen: what was looked for besides, in words, and whether it is so.
    """

    server: Server
    work: Path
    words: list[str] = field(default_factory=lambda: [*PRETRAIN, *SHORT])
    code: int = 0
    said: list[str] = field(default_factory=list)
    how: dict[str, Any] = field(default_factory=dict)
    expected: str = "same"  # what the next start has to bring: "same", "finished", or "refused"
    output: Path | None = None
    data: Path | None = None
    whole: bytes | None = None
    seen: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.output or self.work / "run"

    @property
    def log(self) -> Path:
        """What all starts said."""
        return self.work.parent / f"{self.work.name}.log"

    def start(self, *more: str, **how: Any) -> None:
        """Start the command once."""
        before, words = self.logged(), [*self.words, *more]
        if (self.output or self.data) and "--output" not in words:
            data = str(self.data or self.server.data)
            words += ["--dataset", data, "--output-dir", str(self.run)]
        ended = self.server.start(self.work, words, **{**self.how, **how})
        self.hear(before, ended[0])

    def logged(self) -> int:
        """Return how many bytes the starts have said so far."""
        return self.log.stat().st_size if self.log.exists() else 0

    def hear(self, before: int, code: int) -> None:
        """Keep how a start ended, and what it has said after so many bytes of the log."""
        text = ""
        if self.log.exists():
            text = self.log.read_bytes()[before:].decode(errors="replace")
        lines = text.replace("\r", "\n").splitlines()
        self.code, self.said = code, [line for line in lines if not USUAL.search(line)]
        self.resumed = next((line for line in lines if "continuing after step" in line), "")
        self.traced = "Traceback" in text

    def during(self, ready: Callable[[], bool], act: Callable[[int], None], **how: Any) -> None:
        """Start the command, and act on its process once it is ready."""
        file = self.log.with_suffix(".pid")
        file.unlink(missing_ok=True)
        thread = threading.Thread(target=self.start, kwargs=how)
        thread.start()
        while thread.is_alive() and not (file.exists() and file.read_text() and ready()):
            time.sleep(0.005)
        if thread.is_alive():
            act(int(file.read_text()))
        thread.join()

    def broken(self) -> None:
        """Make a run that ended after four of six steps, with checkpoints after two and four."""
        shutil.copytree(self.server.folder / "whole" / "run", self.run)
        self.unfinish()

    def unfinish(self) -> None:
        """Leave of a finished run what there was after four of its six steps."""
        for name in ("patchit.json", "model.safetensors", "head/model.safetensors", "README.md"):
            (self.run / name).unlink()
        shutil.rmtree(self.run / "checkpoints" / "step-00000006")

    @property
    def newest(self) -> Path:
        """The newest checkpoint."""
        return checkpoints(self.run / "checkpoints")[0]

    def look(self, words: str, right: bool) -> None:
        """Note something that the row says besides; one that is not so makes the row wrong."""
        self.seen.append((words if right else f"NOT {words}", right))


def cases() -> Iterator[Case]:
    """Yield all faults."""
    for module in (fault_cases, fault_data, fault_files, fault_several):
        yield from module.cases()


def on_disk(scene: Scene) -> str:
    """Return in words what a run's folder holds."""
    if not scene.run.exists():
        return "no folder"
    found = []
    for folder in reversed(checkpoints(scene.run / "checkpoints")):
        try:
            check(folder)
            found.append(f"step {int(folder.name[5:])}")
        except DamagedError:
            found.append(f"step {int(folder.name[5:])} (damaged)")
    done = (scene.run / "patchit.json").is_file() and (scene.run / "model.safetensors").is_file()
    drafts = [p for p in scene.run.rglob(".*") if is_draft(p.name)]
    parts = ["whole export" if done else "no export"]
    parts.append(f"checkpoints: {', '.join(found)}" if found else "no checkpoint")
    return "; ".join(parts + [f"{len(drafts)} draft{'s' * (len(drafts) > 1)}"] * bool(drafts))


def outcome(scene: Scene, whole: bytes) -> tuple[str, str]:
    """Return what the next start did, in words, and what is wrong with it."""
    finished, before = (scene.run / "patchit.json").is_file(), scene.said
    scene.start()
    if scene.traced:
        return "a traceback", "a traceback"
    if scene.expected == "refused":
        line = scene.said[-1] if scene.said else "nothing"
        wrong = "" if scene.code in (1, 2) else "it was not refused"
        same = " (the same line)" if line in before else f": {line}"
        return f"exit {scene.code}{same}", wrong
    if scene.code:
        return f"exit {scene.code}: {' '.join(scene.said[-1:])}", "the next start failed"
    went = "was finished" if finished and not scene.resumed else "from the start"
    if scene.resumed:
        went = "from step " + re.sub(r".*after step (\d+) of.*", r"\1", scene.resumed)
    drafts = [p for p in scene.work.rglob(".*") if is_draft(p.name)]
    if drafts:
        return f"{went}; leaves {drafts[0].name}", "a leftover"
    if scene.expected == "finished":
        return f"{went}, to the end", ""
    same = (scene.run / "model.safetensors").read_bytes() == whole
    words = "the same weights as uninterrupted" if same else "OTHER WEIGHTS"
    return f"{went}, {words}", "" if same else "other weights"


def play(case: Any, server: Server, number: int) -> dict[str, Any]:
    """Provoke one fault, start the command again, and return the row of the table."""
    scene = Scene(server, server.folder / f"case-{number}")
    scene.how = {"cache": str(server.folder / "cache")}
    scene.work.mkdir()
    row: dict[str, Any] = {"group": case.group, "fault": case.name}
    with contextlib.ExitStack() as stack:
        try:
            case.provoke(scene, stack)
        except (subprocess.CalledProcessError, FileNotFoundError, PermissionError) as error:
            return row | {"said": f"not provoked: {error}", "code": "", "disk": "", "next": ""}
        row |= {"code": scene.code, "said": "<br>".join(dict.fromkeys(scene.said)) or "nothing"}
        disk = [on_disk(scene), *(words for words, _ in scene.seen)]
        row |= {"disk": "; ".join(disk), "traceback": scene.traced}
        if case.mend is not None:
            case.mend(scene)
        reference = server.folder / case.reference / "run" / "model.safetensors"
        row["next"], wrong = outcome(scene, scene.whole or reference.read_bytes())
    wrong = "a traceback" if row["traceback"] else wrong
    wrong = wrong or "; ".join(words for words, right in scene.seen if not right)
    if case.code is not None and row["code"] != case.code:
        wrong = wrong or f"exit code {row['code']}, not {case.code}"
    row["wrong"] = wrong
    for key in ("said", "next"):
        text = row[key].replace(str(scene.work), "WORK").replace(str(server.folder), "TMP")
        row[key] = re.sub(r"\b[0-9a-f]{24}\b", "NAME", text)
    shutil.rmtree(scene.work, ignore_errors=True)
    return row


HEAD = """\
# What happens when something goes wrong

`{command}`

{count} faults; {packages}. Each was provoked with the real command, which was then started again
without the fault. "Uninterrupted" means that the weights are those of a run without any fault, byte
by byte. WORK is the folder of the case.

| what | fault | what the user saw | exit code | on the disk | the next start |
|---|---|---|---|---|---|
"""


def table(result: dict[str, Any]) -> str:
    """Return the rows as Markdown."""
    text = HEAD.format(count=len(result["rows"]), **result)
    for row in result["rows"]:
        said = [line for line in row["said"].split("<br>") if not USUAL.search(line)]
        cells = [row["group"], row["fault"], "<br>".join(said) or "nothing", row["code"]]
        cells += [row["disk"], row["next"]]
        text += "| " + " | ".join(" ".join(str(c).replace("|", "\\|").split()) for c in cells)
        text += " |\n"
    wrong = [f"{row['fault']}: {row['wrong']}" for row in result["rows"] if row.get("wrong")]
    return f"{text}\nWrong: {'; '.join(wrong) or 'none of them'}.\n"


def main() -> int:
    """Play all cases and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--only", nargs="+", help="faults whose group or name has one of these in it; the other "
        "rows of the output stay as they are"
    )  # fmt: skip
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also if SIGINT is ignored here
    wanted = args.only or [""]
    chosen = [c for c in cases() if any(word in f"{c.group}: {c.name}" for word in wanted)]
    known = {}
    if args.only and args.output.exists():
        rows = json.loads(args.output.read_text(encoding="utf-8"))["rows"]
        known = {(row["group"], row["fault"]): row for row in rows}
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        for name, words in references(chosen).items():
            scene = Scene(server, server.folder / name, words)
            scene.start(cache=str(server.folder / "cache"))
            if scene.code:
                raise SystemExit(f"{name}: {scene.said}")
        for number, case in enumerate(chosen):
            row = play(case, server, number)
            known[case.group, case.name] = row
            print(f"{case.group}: {case.name}: {row.get('wrong') or 'as it should'}", flush=True)
            write(args.output, known)
    return 1 if any(row.get("wrong") for row in known.values()) else 0


def write(output: Path, known: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Write the rows, in the order of the cases, as JSON and as a table."""
    order = [(case.group, case.name) for case in cases()]
    rows = [known[key] for key in order if key in known]
    result = {
        "command": "python benchmarks/faults.py --output benchmarks/results/faults.json",
        "packages": ", ".join(f"{name} {versions()[name]}" for name in ("patchit_hf", "torch")),
        "wrong": sum(bool(row.get("wrong")) for row in rows),
        "rows": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text(table(result), encoding="utf-8")


def references(chosen: list[Any]) -> dict[str, list[str]]:
    """Return the uninterrupted runs that the cases are compared with, by name."""
    needed = {"whole", *(case.reference for case in chosen)}
    return {name: words for name, words in REFERENCES.items() if name in needed}


if __name__ == "__main__":
    sys.exit(main())

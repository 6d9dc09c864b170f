"""What happens when a push fails: for each fault, what the user sees and what is left where.

The real client and the package's own push talk to the loopback Hub of ``tests/hub``, which is told
to fail. The Hub has an earlier export and a file of someone else; a newer export is on disk. After
each permanent fault the Hub is repaired, and the command that the message named is run. The waits
between the package's attempts are shortened; those of the client are not.

    OMP_NUM_THREADS=1 python benchmarks/hub_faults.py --output benchmarks/results/hub-faults.json

A table is written beside the JSON, with the ending ``.md``. Exit code 1 means that data was lost.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from patchit_hf.common.provenance import versions  # noqa: E402
from tests.hub import xet  # noqa: E402
from tests.hub.server import Hub  # noqa: E402
from tests.publish.folders import EXPORT, make_export  # noqa: E402

ID, PACKAGES = "org/name", ("patchit_hf", "huggingface_hub")
OTHERS = {"LICENSE": b"somebody else's"}
RETRY = (3, 0.05, 10)  # attempts, first wait, and seconds after which no attempt starts
PUSH = f"""
    import logging, sys
    from patchit_hf.common.errors import InputError
    from patchit_hf.publish.failures import Retry
    from patchit_hf.publish.upload import push_folder

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("patchit_hf.publish.failures").setLevel(logging.DEBUG)
    try:
        print(push_folder(sys.argv[1], "{ID}", retry=Retry{RETRY}))
    except InputError as error:
        sys.exit(f"error: {{error}}")
"""
AGAIN = re.compile(r"trying again in [\d.]+ s$")
LINE = re.compile(
    rf"error: repository '{ID}': not pushed: (?P<reason>.*)\. The export is safe in '[^']*'; "
    r"push it later with: (?P<command>.*)"
)
STATIONS = {  # the requests of a push, in order: method and route
    "asking for the repository": ("GET", rf"^/api/models/{ID}(/revision/[^/]+)?(\?|$)"),
    "checking the card": ("POST", "/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "LFS batch": ("POST", "/objects/batch"),
    "LFS upload": ("PUT", "^/storage/"),
    "LFS verify": ("POST", "/objects/verify"),
    "commit": ("POST", "/commit/"),
    "Xet token": ("GET", "/xet-write-token/"),
}


@dataclass(frozen=True)
class Case:
    """A fault: name, place, whether it is permanent, its effect on the Hub, client settings."""

    fault: str
    where: str
    lasts: str
    disturb: Callable[[Hub], object] = lambda hub: None
    env: dict[str, str] = field(default_factory=dict)
    token: Callable[[Hub], str] | None = None


def cases() -> Iterator[Case]:
    """Yield all faults."""
    yield Case("no network", "everywhere", "stays", lambda hub: hub.stop())
    yield Case("offline mode", "on this machine", "stays", env={"HF_HUB_OFFLINE": "1"})
    yield Case("no token", "on this machine", "stays", token=lambda hub: "")
    yield Case("a wrong token", "everywhere", "stays", token=lambda hub: "hf_wrong")
    yield Case("a token that only reads", "everywhere", "stays", token=lambda hub: hub.read_token)
    stations = list(STATIONS)[:-1]
    for status in (401, 403):
        for where in stations:
            yield _status(status, where, "stays")
    yield Case("412, somebody pushes in between", "commit", "once", _somebody_pushes)
    yield _status(412, "commit", "stays")
    for status, wheres in ((429, stations[::2]), (500, stations), (503, stations)):
        for where in wheres:
            yield _status(status, where, "once")
    for status, where in ((429, "preupload"), (500, "LFS batch"), (503, "commit")):
        yield _status(status, where, "stays")
    yield _status(429, "commit", "stays", "429, wait an hour", headers={"Retry-After": "3600"})
    for lasts in ("once", "stays"):
        yield _status(409, "commit", lasts)
        for where in ("preupload", "LFS batch", "commit"):
            yield _cut("connection cut in the middle of the answer", where, lasts, 10)
        for where in ("LFS upload", "commit"):
            yield _cut("connection cut in the middle of the upload", where, lasts, 1000, True)
        yield _cut("carried out, but the answer is lost", "commit", lasts, None)
    if find_spec("hf_xet"):
        for status, lasts in ((401, "stays"), (403, "stays"), (503, "once"), (503, "stays")):
            yield _status(status, "Xet token", lasts, env=xet.CLIENT)
        yield _cut("connection cut in the middle of the answer", "Xet token", "once", 5)
        yield Case("the storage cannot be written to", "Xet upload", "stays", _full, xet.CLIENT)
        yield _status(503, "commit", "once", "503 after an upload by Xet", env=xet.CLIENT)


def _status(
    status: int, where: str, lasts: str, name: str = "", env: Any = None, **options: Any
) -> Case:
    (method, route), times = STATIONS[where], 1 if lasts == "once" else None
    options |= {"method": method, "status": status, "times": times}
    return Case(
        name or str(status), where, lasts, lambda hub: hub.fail(route, **options), env or {}
    )


def _cut(name: str, where: str, lasts: str, count: int | None, upload: bool = False) -> Case:
    (method, route), times = STATIONS[where], 1 if lasts == "once" else None
    options: dict[str, Any] = {"method": method, "times": times, "upload": upload}
    env = xet.CLIENT if "Xet" in where else {}
    return Case(name, where, lasts, lambda hub: hub.cut(route, count, **options), env)


def _somebody_pushes(hub: Hub) -> None:
    hub.on("/preupload/", lambda request: hub.advance(ID, path="LICENSE", data=OTHERS["LICENSE"]))


def _full(hub: Hub) -> None:
    hub.xet_store.parent.mkdir(parents=True, exist_ok=True)
    hub.xet_store.write_text("a file where a folder has to be")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by their paths."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Scene:
    """A Hub with an earlier export, and a newer one on disk."""

    def __init__(self, folder: Path) -> None:
        self.hub = Hub(folder / "client").start()
        self.run = make_export(folder / "run")
        self.before = contents(self.run)
        self.new = {name: self.before[name] for name in EXPORT} | OTHERS
        self.old = {**self.new, "config.json": b"[]", "model.safetensors": b"\0old" * 99}
        self.hub.create(ID, self.old)

    @property
    def there(self) -> str:
        """What the Hub has, in words."""
        files, commits = self.hub.files(ID), len(self.hub.repo(ID).log()) - 2  # created and filled
        state = "the new export" if files == self.new else "NEITHER"
        state = "the earlier export" if files == self.old else state
        return f"{state}, {commits} new commit{'s' * (commits != 1)}"

    def row(self, case: Case, pushed: bool, said: list[str]) -> dict[str, Any]:
        """Return what was seen, with the temporary names taken out."""
        text = (
            "\n".join(said).replace(str(self.run), "RUN").replace(self.hub.endpoint, "http://HUB")
        )
        method, route = STATIONS.get(case.where, ("GET", "^$"))
        asked = sum(r.method == method and bool(re.search(route, r.target)) for r in self.hub.log)
        here = "all files" if contents(self.run) == self.before else "CHANGED"
        row = {"fault": case.fault, "where": case.where, "lasts": case.lasts, "asked": asked}
        return row | {"pushed": pushed, "disk": here, "hub": self.there, "said": text}


def play(case: Case, folder: Path) -> dict[str, Any]:
    """Let a push meet a fault; then repair the Hub and run the command that the message named."""
    scene = Scene(folder)
    case.disturb(hub := scene.hub)
    options: Any = {"env": case.env, "token": case.token(hub) if case.token else None}
    done = hub.run(PUSH, args=[str(scene.run)], check=False, timeout=300, **options)
    said = done.stderr.splitlines()
    lines = [line for line in said if not AGAIN.search(line)]
    row = scene.row(case, done.returncode == 0, lines)
    row["attempts"] = 1 + len(said) - len(lines)
    hub.heal()
    if case.disturb is _full:
        hub.xet_store.unlink()
    if case.fault == "no network":
        hub.start()
    told = LINE.fullmatch(lines[-1]) if lines else None
    if told:
        row["reason"] = told["reason"].replace(hub.endpoint, "http://HUB")
        row["notices"] = len(lines) - 1
        argv = [sys.executable, *shlex.split(told["command"])[1:]]
        row["later"] = scene.there if hub.run(argv, check=False).returncode == 0 else "NOTHING"
    row["lost"] = lost(row)
    hub.stop()
    return row


def lost(row: dict[str, Any]) -> str:
    """Return what is wrong with a row; empty if nothing was lost."""
    if row["disk"] != "all files":
        return "files on the disk changed"
    if row["pushed"]:
        return "" if row["hub"].startswith("the new") else "pushed, but not on the Hub"
    if not row["hub"].startswith("the earlier"):
        return "not pushed, but the Hub changed"
    if "reason" not in row:
        return "not one line with the folder and the command"
    return "" if row["later"].startswith("the new") else "the command does not push it later"


def interrupt(name: str, number: int, folder: Path) -> dict[str, Any]:
    """Interrupt a push by a signal during its upload, and run the same command again."""
    scene = Scene(folder)
    argv = [sys.executable, "-m", "patchit_hf.publish.hub", str(scene.run), ID]
    process = subprocess.Popen(argv, env=scene.hub.env(), stderr=subprocess.PIPE, text=True)
    scene.hub.on("^/storage/", lambda request: process.send_signal(number), method="PUT")
    said = process.communicate(timeout=120)[1].strip().splitlines()
    row = scene.row(Case(name, "LFS upload", "once"), process.returncode == 0, said)
    row |= {"reason": said[-1] if said else "nothing", "attempts": 1}
    row["later"] = scene.there if scene.hub.run(argv, check=False).returncode == 0 else "NOTHING"
    row["lost"] = lost(row)
    scene.hub.stop()
    return row


HEAD = """\
# What happens when a push meets trouble

`{command}`

{count} faults; {packages}. The real client and the package's push
talked to the loopback Hub of `tests/hub`. Before each, the Hub had an earlier export and somebody
else's file, and the disk a newer export. The last line that the user saw of each failure was

> error: repository 'org/name': not pushed: **REASON**. The export is safe in 'RUN'; push it later
> with: python -m patchit_hf.publish.hub RUN org/name

and the table has its REASON; before it, the client may have warned that it tries again. "Tries"
are the package's, {retry[0]} at most here (a user has 6 in up to 5 minutes); "asked" counts the
requests at that place, with the client's own retries. "Later" is what the Hub had when the trouble
was over and that very command had been run.

| fault | where | lasts | what the user saw | on the disk | on the Hub | tries | asked | later |
|---|---|---|---|---|---|---|---|---|
"""


def table(result: dict[str, Any]) -> str:
    """Return the rows as Markdown."""
    text = HEAD.format(count=len(result["rows"]), **result)
    for row in result["rows"]:
        saw = "pushed" if row["pushed"] else row.get("reason", row["said"])
        cells = [row["fault"], row["where"], row["lasts"], saw, row["disk"], row["hub"]]
        cells += [row["attempts"], row["asked"] or "", row.get("later", "")]
        text += "| " + " | ".join(" ".join(str(cell).split()) for cell in cells) + " |\n"
    bad = ", ".join(row["lost"] for row in result["rows"] if row["lost"])
    return f"{text}\nLost: {bad or 'nothing, in any of them'}.\n"


def main() -> int:
    """Play all cases and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="faults whose name or place has this in it")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also if SIGINT is ignored here
    jobs: list[tuple[str, Callable[[Path], dict[str, Any]]]] = [
        (f"{case.fault}, {case.where}, {case.lasts}", partial(play, case)) for case in cases()
    ]
    for name, number in (("killed", signal.SIGKILL), ("Ctrl-C", signal.SIGINT)):
        jobs.append((f"{name}, LFS upload, once", partial(interrupt, name, number)))
    rows = []
    for name, job in jobs:
        if args.only in name:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(row := job(Path(folder)))
            print(f"{name}: {row['lost'] or 'nothing lost'}", flush=True)
    result = {
        "command": shlex.join(["python", "benchmarks/hub_faults.py", *sys.argv[1:]]),
        "packages": ", ".join(f"{name} {versions()[name]}" for name in PACKAGES),
        "retry": RETRY,
        "lost": sum(bool(row["lost"]) for row in rows),
        "rows": rows,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    args.output.with_suffix(".md").write_text(table(result), encoding="utf-8")
    return 1 if result["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())

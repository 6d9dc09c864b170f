"""Commands in forks of a process that has imported everything: a start takes a second, not ten.

The forks run the command's own ``main`` with its arguments; several of them find each other by the
variables that torchrun sets. Each start may have limits of its own, a stderr of its own, and an end
by SIGKILL at an instant or at an event of the file system.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests import own_process

ROOT = Path(__file__).resolve().parents[1]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")


def write_data(folder: Path) -> Path:
    """Write 48 crops with two attributes, in a training and a validation split."""
    import datasets
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, count in (("train", 40), ("validation", 8)):
        images = [
            Image.fromarray(rng.integers(0, 256, (50, 25, 3)).astype(np.uint8))
            for _ in range(count)
        ]
        rows = {"image": images, "hat": [i % 2 == 0 for i in range(count)]}
        rows["bag"] = [i % 3 == 0 for i in range(count)]
        data = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
        data.to_parquet(str(folder / f"{name}-00000-of-00001.parquet"))
    return folder


# -- the server ------------------------------------------------------------------------------------


def serve() -> None:
    """Read a start per line, fork its processes, and answer how they ended."""
    import datasets
    import torch.distributed.elastic  # noqa: F401
    from sklearn.metrics import average_precision_score  # noqa: F401

    import patchit_hf.compare.comparison
    import patchit_hf.crops.make
    import patchit_hf.figures.page
    import patchit_hf.finetune.build
    import patchit_hf.finetune.trainer
    import patchit_hf.pretrain.trainer  # noqa: F401
    from patchit_hf.compare import main as compare
    from patchit_hf.crops import main as crops
    from patchit_hf.finetune import main as finetune
    from patchit_hf.predict.embed_command import main as embed
    from patchit_hf.pretrain import main as pretrain
    from patchit_hf.publish.card import main as card
    from tests.in_turn import main as in_turn

    datasets.disable_progress_bars()
    commands = {"pretrain": pretrain, "finetune": finetune, "compare": compare, "crops": crops}
    commands |= {"card": card, "embed": embed, "in_turn": in_turn}
    for line in sys.stdin:
        asked = json.loads(line)
        children = [
            _fork(commands[asked["words"][0]], asked, rank) for rank in range(asked["processes"])
        ]
        print(json.dumps(_watch(children, asked.get("seconds"))), flush=True)


def _fork(main: Any, asked: dict[str, Any], rank: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with Path(asked.get("stderr") or asked["log"]).open("ab") as log:
            os.dup2(log.fileno(), 2)
        Path(asked["log"]).with_suffix(".pid").write_text(str(os.getpid()))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ |= asked.get("env", {})
        sys.argv = ["patchit", *asked["words"], *asked.get("argv", [])]
        if asked["processes"] > 1:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(asked["processes"]),
                "LOCAL_WORLD_SIZE": str(asked["processes"]), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(asked["port"]),
            }  # fmt: skip
        import datasets

        datasets.config.HF_DATASETS_CACHE = Path(asked.get("cache") or f"{asked['folder']}/cache")
        for name, most in asked.get("limits", {}).items():
            _limit(getattr(resource, f"RLIMIT_{name}"), most)
        if rank == 0 and "event" in asked:
            _watch_events(asked["folder"], asked["event"])
        code = main(asked["words"][1:])
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def _limit(which: int, most: int) -> None:
    """Set a limit of this process; of the address space, beyond what it has now."""
    if which == resource.RLIMIT_AS:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most += pages * resource.getpagesize()
    resource.setrlimit(which, (most, resource.getrlimit(which)[1]))


def _watch_events(folder: str, last: int | str) -> None:
    """End this process by SIGKILL right before an event.

    Args:
        folder: events below it count.
        last: the number of the event, counted from 1; 0 only lists them; or the path of a file or
            folder, for the first event after this is there.
    """
    seen = 0
    here = os.path.join(os.path.realpath(folder), "")

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(args[2], int) and args[2] & 0o3
        if not (writes or event in CHANGES) or not isinstance(args[0], str | os.PathLike):
            return
        if not os.path.realpath(os.fspath(args[0])).startswith(here):
            return
        seen += 1
        if os.path.exists(last) if isinstance(last, str) else seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
        if last == 0:  # only count
            os.write(2, b"EVENT %s %s\n" % (event.encode(), os.fsencode(args[0])))

    sys.addaudithook(hook)


def _watch(children: list[int], seconds: float | None) -> list[int]:
    """Wait for the processes, or kill them all after so many seconds; return how each ended."""
    deadline = None if seconds is None else time.monotonic() + seconds
    ended: dict[int, int] = {}
    while len(ended) < len(children):
        if deadline is not None and time.monotonic() >= deadline:
            _kill(children, ended)
            deadline = None
        for child in children:
            if child not in ended:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    ended[child] = os.waitstatus_to_exitcode(status)
        if any(ended.values()) and len(ended) < len(children):  # a launcher ends the others, too
            _kill(children, ended)
        time.sleep(0.002)
    return [ended[child] for child in children]


def _kill(children: list[int], ended: dict[int, int]) -> None:
    for child in children:
        if child not in ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


# -- its client ------------------------------------------------------------------------------------


@dataclass
class Server:
    """Starts commands in forks of a process that has imported everything."""

    folder: Path
    process: Any = field(init=False)
    asked: IO[str] = field(init=False)
    answers: IO[str] = field(init=False)
    data: Path = field(init=False)

    def __enter__(self) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.data.mkdir()
        write_data(self.data)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "1"}
        env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        asked, answers = self.folder / "asked", self.folder / "answers"
        os.mkfifo(asked)
        os.mkfifo(answers)
        self.process = own_process.start(
            [__file__], env=env, stdin=asked, stdout=answers, stderr=self.folder / "stderr"
        )
        self.asked = asked.open("w", encoding="utf-8")
        self.answers = answers.open(encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        self.asked.close()
        self.answers.close()
        self.process.join(60)

    def start(self, work: Path, words: list[str], processes: int = 1, **how: Any) -> list[int]:
        """Run a command in a folder of its own and return how its processes ended."""
        work.mkdir(exist_ok=True)
        if not {"--output-dir", "--output", "in_turn"} & set(words):
            words = [*words, "--dataset", str(self.data), "--output-dir", str(work / "run")]
        asked = {"words": words, "processes": processes, "folder": str(work), **how}
        asked |= {"log": str(work.parent / f"{work.name}.log"), "port": _free_port()}
        self.asked.write(json.dumps(asked) + "\n")
        self.asked.flush()
        answer: list[int] = json.loads(self.answers.readline())
        return answer


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def log_of(work: Path) -> str:
    """Return what the commands of a folder have said on stderr."""
    file = work.parent / f"{work.name}.log"
    return file.read_text(errors="replace") if file.exists() else ""


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    serve()

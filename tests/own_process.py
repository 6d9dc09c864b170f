"""Python in a process of its own, which starts in two seconds of work instead of seven.

The process is a fork of one that has imported what takes longest and reads nothing of Hugging
Face's environment. All else, the package too, is imported anew, with the environment it is given.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[1])
SITE = "import sys; print(*sys.path[1:], sep='\\n')"
LONG = ["torch", "torchvision", "sklearn.metrics", "matplotlib.pyplot"]


@functools.cache
def _site() -> list[str]:
    """Return what Python itself searches: this folder, too, if the package is installed from it."""
    plain = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.check_output([sys.executable, "-c", SITE], text=True, env=plain).split("\n")


@functools.cache
def _context() -> Any:
    import pytest  # here, because each process imports this module

    if ROOT not in sys.path:  # the children find this module there
        sys.path.append(ROOT)
    context = get_context("forkserver")
    context.set_forkserver_preload(LONG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLOC_ARENA_MAX", "1")  # or a limit of the address space says little
        ensure_running()
    return context


def start(
    words: Sequence[Any],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    stdin: Path | str = os.devnull,
    stdout: Path | str = os.devnull,
    stderr: Path | str = os.devnull,
) -> Any:
    """Start Python and return its ``multiprocessing.Process``.

    Args:
        words: what stands behind ``python``: ``-c CODE``, ``-m MODULE`` or a file, and arguments.
        env: all its variables; by default those of this process.
        cwd: its working folder.
        stdin: the file that it reads from.
        stdout: the file that it writes to.
        stderr: the same.
    """
    given = ([str(word) for word in words], dict(os.environ if env is None else env))
    files = (str(stdin), str(stdout), str(stderr))
    process = _context().Process(
        target=_become, args=(*given, str(cwd or "."), files, os.getpid(), _site())
    )
    process.start()
    atexit.register(process.kill)  # or the end of the tests would wait for that of the process
    return process


def run(
    words: Sequence[Any],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, as ``subprocess.run`` does with captured output."""
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder, name) for name in ("stdout", "stderr")]
        process = start(words, env=env, cwd=cwd, stdout=said[0], stderr=said[1])
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(words), timeout, *(f.read_bytes() for f in said))
        out, err = (file.read_text(encoding="utf-8", errors="replace") for file in said)
    return subprocess.CompletedProcess(list(words), process.exitcode, out, err)


def _end_with(tests: int) -> None:
    """End this process when that of the tests has ended; its own parent is the fork server."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(tests, 0)
            time.sleep(1)
    os._exit(1)


def _become(
    words: list[str],
    env: dict[str, str],
    cwd: str,
    files: tuple[str, str, str],
    tests: int,
    site: list[str],
) -> None:
    """Turn this process into the one that was asked for, and do what it does."""
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, file in enumerate(files):
        how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY
        os.dup2(os.open(file, how, 0o666), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    threading.Thread(target=_end_with, args=(tests,), daemon=True).start()
    kind, *rest = words
    first = "" if kind == "-c" else os.getcwd() if kind == "-m" else os.path.dirname(kind)
    here = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [
        first,
        *here,
        *(p for p in sys.path if p and p not in {ROOT, *before} - set(site)),
    ]
    multiprocessing.set_start_method(None, force=True)  # or its own processes were started so, too
    multiprocessing.current_process().name = "MainProcess"
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "patchit_hf")]:
        del sys.modules[name]
    sys.argv = [kind, *rest[1:]] if kind in ("-c", "-m") else words
    try:
        if kind == "-c":
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        elif kind == "-m":
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(kind, run_name="__main__")
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()

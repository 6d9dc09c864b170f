"""Fixtures for all tests: small crops, small backbones, no network.

What takes seconds to import is imported where it is used: xdist's first process runs no tests.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small nets gain nothing from more threads
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import functools
import gc
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.forked import Server
from tests.hub.fixtures import hub  # noqa: F401

if TYPE_CHECKING:
    import datasets

    from patchit_hf import PatchTaskTrainer


def make_crops(count: int, height: int = 50, width: int = 25, seed: int = 0) -> list[Image.Image]:
    """Pictures whose colour follows the place, so that positions can be learnt in seconds."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([y / height, x / width, 1 - y / height], axis=-1) * 200
    noise = rng.integers(0, 56, (count, height, width, 3))
    return [Image.fromarray((base + n).astype(np.uint8)) for n in noise]


@functools.cache
def some_people() -> datasets.Dataset:
    """Return the first 600 of the embedded people, rendered once for all of a session's tests."""
    import datasets

    from patchit_hf.data.people import load_people

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", PEOPLE["cache"])
        return load_people(600, num_proc=1)


def write_people(folder: Path, **splits: range) -> str:
    """Write rows of the embedded people as splits of parquet, and return the folder."""
    people = some_people()
    for name, rows in splits.items():
        people.select(rows).to_parquet(str(folder / f"{name}-00000-of-00001.parquet"))
    return str(folder)


def train_and_kill(trainer: PatchTaskTrainer, step: int, before: Any = lambda: None) -> None:
    """Train until a step is done, call ``before``, and end there as if the process were killed."""
    after_step = trainer._after_step

    def kill(done: int, means: Any) -> bool:
        stops = after_step(done, means)
        if done == step:
            before()
            raise KeyboardInterrupt
        return stops

    trainer._after_step = kill  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.run.release()


PEOPLE: dict[str, Path] = {}  # under "cache", where a session keeps those that it has rendered
APART = {"slow", "gpu", "realdata"}


gc.disable()  # while everything is imported: little of it becomes garbage


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collections, and collect less often."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 10)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count what the default run leaves out as end to end, and begin with files of long tests.

    ``-m "not e2e"`` takes the place of the default's ``-m``. A long test at the end would leave one
    of two processes idle.
    """
    for item in items:
        if APART & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.e2e)
    long = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process a half of the tests, and let it take over others' when it has done them.

    xdist's default mixes the tests, so that every process sets up the fixtures of every file.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture
def crops() -> datasets.Dataset:
    """Forty small crops of ten persons, in memory."""
    import datasets

    return datasets.Dataset.from_dict(
        {"image": make_crops(40), "person_id": [i // 4 for i in range(40)]}
    ).cast_column("image", datasets.Image())


@pytest.fixture
def crop_folder(tmp_path: Path, crops: datasets.Dataset) -> str:
    """The same as a folder of one parquet file."""
    folder = tmp_path / "crops"
    folder.mkdir()
    crops.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    return str(folder)


@pytest.fixture
def small() -> dict[str, Any]:
    """Options of a task whose patches are 8 px on a 50x25 canvas: 3 x 2 cells."""
    return {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2}


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Forget Accelerate's state of the process, which fixes the precision of later tests."""
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def _no_worker_stays() -> Iterator[None]:
    """Check that the worker processes of loaders ended where they were used.

    One that the garbage collector ends is waited for in vain, for five seconds.
    """
    before = {process.pid for process in multiprocessing.active_children()}
    yield
    assert [p for p in multiprocessing.active_children() if p.pid not in before] == []


@pytest.fixture(autouse=True)
def _process_stays() -> Iterator[None]:
    """Check that a test leaves the settings of the process as they were, for the tests after it.

    With another number of threads, weights differ by rounding.
    """
    import torch

    from patchit_hf.common import freed_memory

    package = logging.getLogger("patchit_hf")

    def settings() -> dict[str, Any]:
        return {
            "threads": torch.get_num_threads(),
            "precision": torch.get_float32_matmul_precision(),
            "deterministic": torch.backends.cudnn.deterministic,
            "gradients": torch.is_grad_enabled(),
            "type": torch.get_default_dtype(),
            "messages": (package.level, package.propagate, list(package.handlers)),
            "folder": os.getcwd(),
            "memory kept": freed_memory._within,
        }

    before = settings()
    yield
    assert settings() == before


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, _process_stays: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep data set caches of a test inside its folder, and do not wait after a stream's end."""
    import datasets

    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.03, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-datasets")


Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session", autouse=True)
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A function: a folder of this name, made once for the session by one of its processes."""
    import datasets

    from patchit_hf.common import progress

    datasets.disable_progress_bars()
    progress.SOON = 600.0  # or a slow machine would have lines that a fast one has not
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    PEOPLE["cache"] = base / "people-cache"

    @functools.cache
    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = base / "once" / name, base / f"once-{name}"
        with FileLock(f"{done}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir(parents=True)
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def export(once: Once) -> Path:
    """An export of the pretraining command, for the whole session; copy it to change it."""

    def make(folder: Path) -> None:
        import datasets

        from patchit_hf.pretrain import main

        rows = datasets.Dataset.from_dict({"image": make_crops(40)})
        rows.cast_column("image", datasets.Image()).to_parquet(str(folder / "train.parquet"))
        words = [
            "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "16", "--max-steps",
            "4", "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "jitter=2", "--no-figures",
            "--dataset", str(folder), "--output-dir", str(folder / "run"),
        ]  # fmt: skip
        assert main(words) == 0

    return once("export", make) / "run"


@pytest.fixture(scope="session")
def labelled_people(once: Once) -> str:
    """A folder of the embedded people with four splits."""

    def make(folder: Path) -> None:
        (folder / "data").mkdir()  # where names of splits that are no usual ones are seen
        splits = {"train": range(200), "test": range(200, 260), "query": range(300, 320)}
        write_people(folder / "data", **splits, gallery=range(320, 380))

    return str(once("people", make))


@pytest.fixture(scope="session")
def finetuned(once: Once, labelled_people: str) -> Callable[[str], Path]:
    """A function: the folder of a network that four steps have finetuned for a task, made once."""

    def make(folder: Path) -> None:
        from patchit_hf.finetune import main

        words = [
            "--task", folder.name, "--backbone", "test_resnet", "--input-size", "48x24",
            "--batch-size", "16", "--max-steps", "4", "--eval-every", "0", "--save-every", "0",
            "--dataset", labelled_people, "--split", "train", "--output-dir", str(folder),
        ]  # fmt: skip
        assert main(words) == 0

    return lambda task: once(task, make)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts commands in forks of one process that has imported everything."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server

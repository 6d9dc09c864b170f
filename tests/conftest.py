"""Fixtures for all tests: small crops, small backbones, no network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small nets gain nothing from more threads
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from patchit_hf import PatchTaskTrainer
from patchit_hf.data.people import load_people
from tests.forked import Server
from tests.hub.fixtures import hub  # noqa: F401

datasets.disable_progress_bars()


def make_crops(count: int, height: int = 50, width: int = 25, seed: int = 0) -> list[Image.Image]:
    """Pictures whose colour follows the place, so that positions can be learnt in seconds."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([y / height, x / width, 1 - y / height], axis=-1) * 200
    noise = rng.integers(0, 56, (count, height, width, 3))
    return [Image.fromarray((base + n).astype(np.uint8)) for n in noise]


def some_people() -> datasets.Dataset:
    """Return the first 1,200 of the embedded people, which a session renders once."""
    return load_people(1200, num_proc=1)


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


APART = {"slow", "gpu", "realdata"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count what the default run leaves out as end to end, so that "not e2e" leaves it out, too.

    ``-m "not e2e"`` takes the place of the default's ``-m``.
    """
    for item in items:
        if APART & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def crops() -> datasets.Dataset:
    """Forty small crops of ten persons, in memory."""
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
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep data set caches of a test inside its folder, and do not wait after a stream's end."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-datasets")


@pytest.fixture(scope="session")
def people_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where rendered people are kept for the whole session, by all its processes."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "people-cache"


@pytest.fixture
def with_people(_own_caches: None, people_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Render people once for all tests that use this."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", people_cache)


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the pretraining command, for the whole session; copy it to change it."""
    from patchit_hf.pretrain import main

    folder = tmp_path_factory.mktemp("export")
    rows = datasets.Dataset.from_dict({"image": make_crops(40)})
    rows.cast_column("image", datasets.Image()).to_parquet(str(folder / "train.parquet"))
    words = [
        "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "16", "--max-steps", "4",
        "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "jitter=2", "--no-figures",
        "--dataset", str(folder), "--output-dir", str(folder / "run"),
    ]  # fmt: skip
    assert main(words) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def labelled_people(tmp_path_factory: pytest.TempPathFactory, people_cache: Path) -> str:
    """A folder of the embedded people with four splits."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "data").mkdir()  # where names of splits that are no usual ones are seen
    splits = {"train": range(200), "test": range(200, 260), "query": range(300, 320)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", people_cache)
        write_people(folder / "data", **splits, gallery=range(320, 380))
    return str(folder)


@pytest.fixture(scope="session")
def finetuned(
    tmp_path_factory: pytest.TempPathFactory, labelled_people: str
) -> Callable[[str], Path]:
    """A function: the folder of a network that four steps have finetuned for a task, made once."""
    from patchit_hf.finetune import main

    @functools.cache
    def finetune(task: str) -> Path:
        folder = tmp_path_factory.mktemp("finetuned") / task
        words = [
            "--task", task, "--backbone", "test_resnet", "--input-size", "48x24", "--batch-size",
            "16", "--max-steps", "4", "--eval-every", "0", "--save-every", "0", "--dataset",
            labelled_people, "--split", "train", "--output-dir", str(folder),
        ]  # fmt: skip
        assert main(words) == 0
        return folder

    return finetune


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts commands in forks of one process that has imported everything."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server

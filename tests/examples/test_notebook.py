"""The notebook runs from top to bottom; a trainer is interrupted in a kernel and run again."""

import json
import re
import time
from pathlib import Path
from queue import Empty

import pytest

from tests.conftest import PEOPLE

nbformat = pytest.importorskip("nbformat")
NotebookClient = pytest.importorskip("nbclient").NotebookClient
KernelManager = pytest.importorskip("jupyter_client").KernelManager

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
TRAIN = """
from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task, load_crops
crops = load_crops("crops")
trainer = PatchTaskTrainer(
    "test_resnet",
    TrainingArguments(output_dir="run", max_steps={steps}, train_batch_size=8, save_steps=2000,
                      figures=False, audit=False, logging_steps=1, eval_steps=0),
    create_task("position", (50, 25), rows=3, cols=2, patch_size=8, jitter=2),
    crops.train,
)
print("results:", trainer.train()["step"])
print("began at", trainer.monitor.progress.first // 8)
"""


def printed(cell):
    """Return what a cell has shown as text."""
    return "".join(
        output.get("text", "") or "\n".join(output.get("traceback", []))
        for output in cell.get("outputs", [])
    )


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(PEOPLE["cache"]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept without outputs
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, resources=resources).execute()
    shown = [printed(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert "240 crops" in shown[2]
    found = re.search(r"held-out accuracy (\S+)%, chance (\S+)%", shown[3])
    assert float(found[1]) > 1.5 * float(found[2])
    record = json.loads((tmp_path / "quickstart" / "attributes" / "patchit.json").read_text())
    assert f"{record['results']['eval_map']:.1%}" in shown[5]
    assert len(re.findall(r"^\w+ +\d+%$", shown[6], re.M)) >= 8
    pictures = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in
                o.get("data", {}) or "image/jpeg" in o.get("data", {})]  # fmt: skip
    assert len(pictures) == 4


class Kernel:
    """A kernel, and what its cells show."""

    def __init__(self, folder):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code, until=None):
        """Run a cell, interrupt it once its output contains ``until``, and return all output."""
        sent, shown, end = self.client.execute(code), "", time.monotonic() + 300
        while time.monotonic() < end:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except Empty:
                continue
            if message["parent_header"].get("msg_id") != sent:
                continue
            content = message["content"]
            shown += content.get("text", "") + "\n".join(content.get("traceback", []))
            if until is not None and re.search(until, shown):
                self.manager.interrupt_kernel()
                until = None
            if content.get("execution_state") == "idle":
                return shown
        raise AssertionError(f"no end after five minutes: {shown}")

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_trainer_is_interrupted_and_run_again_in_a_kernel(tmp_path, monkeypatch, crop_folder):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    kernel = Kernel(tmp_path)
    try:
        cell = TRAIN.format(steps=400)
        shown = kernel.run(cell, until=r"training: +[1-9]|patches/s")
        assert "stopped by SIGINT; the checkpoint after step" in shown, shown
        (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("step-*")
        step = int(checkpoint.name.split("-")[1])
        assert 0 < step < 400
        shown = kernel.run(cell)  # the same cell: it goes on, in the same kernel
        assert "results: 400" in shown, shown
        assert f"began at {step}\n" in shown, shown
    finally:
        kernel.stop()

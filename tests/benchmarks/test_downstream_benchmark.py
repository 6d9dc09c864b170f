"""The comparisons on real pictures: their commands are ones that the package takes."""

import importlib.util
from pathlib import Path

import pytest

from patchit_hf.common import cli
from patchit_hf.compare.arguments import CompareArguments
from patchit_hf.compare.plan import make_plan
from patchit_hf.data.canvas import parse_canvas
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.patch_tasks import create_task
from patchit_hf.pretrain.arguments import PretrainArguments, TrainingArguments

FILE = Path(__file__).parents[2] / "benchmarks" / "downstream.py"
spec = importlib.util.spec_from_file_location("downstream_benchmark", FILE)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize("name", benchmark.PRETRAINING)
def test_the_patches_lie_on_the_canvas(name):
    words = benchmark.pretraining(name)
    what, args = cli.parse("", words, PretrainArguments, TrainingArguments, prog="pretrain")
    assert args.output_dir == f"runs/{name}"
    task = create_task("position", canvas=parse_canvas(what.canvas), **what.task_kwargs)
    assert all(0.7 < a / b <= 1 for a, b in zip(task.grid.covered, task.canvas, strict=True))


@pytest.mark.parametrize("name", benchmark.COMPARISONS)
def test_contenders_start_from_what_is_pretrained_before(name):
    words = benchmark.comparison(name)
    plan = make_plan(*cli.parse("", words, CompareArguments, FinetuningArguments, prog="compare"))
    assert plan.contenders["random"] == "random"
    made = {f"runs/{run}" for run in benchmark.needed(name)}
    assert made == {source for source in plan.contenders.values() if source.startswith("runs/")}
    assert made
    size = parse_canvas(plan.what.input_size)
    for run in benchmark.needed(name):
        canvas = parse_canvas(benchmark.PRETRAINING[run][2])
        assert canvas[0] * size[1] == canvas[1] * size[0]

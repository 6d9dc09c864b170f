"""What a training does when the machine lacks something: one line, and nothing is lost."""

import contextlib
import json
import logging
import os
import resource
import shutil
import sys
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file
from tqdm.auto import tqdm

from patchit_hf import InputError, PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.common.console import guarded, say
from patchit_hf.common.files import append_line, write_text
from patchit_hf.common.resources import ResourceError, check_writable, line_of
from patchit_hf.training.checkpoint import check, checkpoints
from patchit_hf.training.memory import is_out_of_memory
from patchit_hf.training.run_folder import History, RunFolder


@contextmanager
def largest_file(size):
    """Let this process write no file larger than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def trainer(tmp_path, crops, small):
    def make(folder="run", **options):
        settings = {
            "output_dir": str(tmp_path / folder), "max_steps": 4, "train_batch_size": 8,
            "save_steps": 2, "eval_steps": 2, "figures": False, "audit": False, **options,
        }  # fmt: skip
        task = create_task("position", (50, 25), **small, input_scale=4)
        args = TrainingArguments(**settings)
        return PatchTaskTrainer("test_convnext", args, task, crops, crops.select(range(4)))

    return make


def in_step(trainer, step, action):
    """Do something when a step's gradients are there."""
    before = trainer._before_step

    def also(number):
        before(number)
        if number == step:
            action()

    trainer._before_step = also
    return trainer


@pytest.mark.e2e
def test_a_checkpoint_that_cannot_be_written_leaves_those_before(tmp_path, trainer):
    """By a limit of the process, as `ulimit -f` or a quota sets it."""
    whole = trainer("whole")
    whole.train()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    lower = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))  # noqa: E731
    try:
        with pytest.raises(ResourceError) as error:
            in_step(trainer(), 2, lower).train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    folder = tmp_path / "run" / "checkpoints"
    needed = sum(t.nbytes for t in whole.model.state_dict().values()) * 2
    line = str(error.value)
    assert line.startswith(f"{str(folder / '.step-00000004.tmp')!r}: 'model.safetensors' cannot be")
    assert "larger than this process may write (ulimit -f); 50,000 bytes are allowed, " in line
    assert int(line.split()[-3].replace(",", "")) == pytest.approx(needed / 2, rel=0.1)
    assert [path.name for path in folder.glob("*step-*")] == ["step-00000002"]
    check(folder / "step-00000002")
    trainer().train()
    one, two = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "run"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_optimizers_file_is_named_where_it_is_too_large(tmp_path):
    """torch's own error speaks of positions in a file."""
    from patchit_hf.training.checkpoint import save_checkpoint

    model = torch.nn.Linear(10, 10)
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.state["x"] = {"exp_avg": torch.zeros(100_000)}
    with largest_file(10_000), pytest.raises(ResourceError, match=r"\(ulimit -f\)"):
        save_checkpoint(tmp_path, 1, {}, model, optimizer, None, {}, 2)
    assert not list(tmp_path.iterdir())


def test_a_line_of_the_history_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "metrics.jsonl"
    history = History(file, True, 0)
    history.add({"step": 1, "train_loss": 1.0})
    before = file.read_bytes()
    with largest_file(len(before) + 5), pytest.raises(ResourceError, match=r"'metrics\.jsonl' can"):
        history.add({"step": 2, "train_loss": 0.5})
    assert file.read_bytes() == before
    history.add({"step": 3, "train_loss": 0.25})
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 3]


def test_the_history_is_never_lost_when_a_run_continues(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for step in range(9):
        append_line(file, json.dumps({"step": step}))
    before = file.read_bytes()
    with largest_file(20), pytest.raises(ResourceError):
        History(file, True, 5)
    assert file.read_bytes() == before


def test_free_and_needed_bytes_are_named(tmp_path):
    with pytest.raises(ResourceError) as error, largest_file(3):
        write_text(tmp_path / "notes.txt", "four")
    assert str(error.value) == (
        f"{str(tmp_path)!r}: 'notes.txt' cannot be written: a file would be larger than this "
        "process may write (ulimit -f); 3 bytes are allowed, 4 are needed"
    )
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_is_deleted_is_not_made_again(tmp_path, trainer):
    run = trainer()
    in_step(run, 2, lambda: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(ResourceError, match=r"--output-dir .*run': has been deleted, or is not wh"):
        run.train()
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_may_not_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ResourceError, match=r"': permission is denied"):
        RunFolder(tmp_path / "new" / "run", {})
    monkeypatch.undo()
    check_writable(tmp_path / "new" / "run")


def test_commands_say_one_line_and_exit_with_one(tmp_path, capsys):
    def run(argv):
        with largest_file(3):
            write_text(tmp_path / "notes.txt", "four")
        return 0

    assert guarded(run, None, "the same command starts again") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {str(tmp_path)!r}: 'notes.txt' cannot be written: ")
    assert line.endswith(", 4 are needed; the same command starts again")


def test_too_many_open_files_are_a_line(tmp_path, capsys):
    kept = []

    def run(argv):
        try:
            while True:
                kept.append((tmp_path / "x").open("w"))
        finally:
            for file in kept:
                file.close()

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        assert guarded(run, None) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: too many files are open in this process (ulimit -n) (")
    assert "100 are allowed: raise the limit" in line


def test_a_missing_file_is_still_a_bug():
    assert line_of(FileNotFoundError(2, "No such file or directory", "x")) is None
    assert line_of(ValueError("x")) is None


def test_a_terminal_that_cannot_be_written_stops_nothing(monkeypatch):
    def run(argv):
        for _ in tqdm(range(3), mininterval=0):
            say("a line")
        print("another", file=sys.stderr, flush=True)
        return 0

    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert guarded(run, None) == 0
        assert sys.stderr is full
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()


class Limit:
    """Memory that holds so many inputs at a time."""

    def __init__(self, inputs):
        self.inputs, self.seen = inputs, []

    def __call__(self, module, inputs):
        self.seen.append(len(inputs[0]))
        if module.training and len(inputs[0]) > self.inputs:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't "
                "allocate memory: you tried to allocate 1 bytes. Error code 12"
            )


def limited(trainer, inputs):
    limit = Limit(inputs)
    trainer.model.register_forward_pre_hook(limit)
    return trainer, limit


@pytest.mark.e2e
def test_out_of_memory_says_what_would_fit(tmp_path, trainer):
    run, _ = limited(trainer(), 3)
    with pytest.raises(ResourceError) as error:
        run.train()
    line = str(error.value)
    assert line.startswith("out of memory on cpu ([enforce fail at alloc_cpu.cpp:121]")
    assert line.endswith(
        ": 8 inputs at a time do not fit, 2 do; --batch-size 2 would fit, and "
        "--gradient-accumulation-steps 4 trains on the batch of 8 in parts (--batch-size auto "
        "finds it)"
    )
    assert "\n" not in line


@pytest.mark.e2e
def test_out_of_memory_where_nothing_fits(trainer):
    run, _ = limited(trainer(), 0)
    with pytest.raises(ResourceError, match="the smallest parts of the batch do not fit, either"):
        run.train()


@pytest.mark.e2e
def test_the_parts_are_found_once_and_the_recipe_is_kept(tmp_path, trainer, caplog):
    whole = trainer("whole")
    whole.train()
    run, limit = limited(trainer(gradient_accumulation_steps=0), 3)
    with caplog.at_level(logging.INFO):
        run.train()
    assert "the batch of 8 is trained 2 at a time" in caplog.messages
    assert json.loads((tmp_path / "run" / "run.json").read_text())["parts"] == 4
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    (tmp_path / "run" / "patchit.json").unlink()
    run.run.release()
    again, limit = limited(trainer(gradient_accumulation_steps=0), 3)
    again.train()
    assert 8 not in limit.seen[:4]  # no second trial


def test_auto_is_the_default_batch_in_parts_to_be_found(tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), train_batch_size="auto")
    assert args.train_batch_size == TrainingArguments().train_batch_size
    assert args.gradient_accumulation_steps == 0
    from patchit_hf.common.cli import parse

    for words in (["--batch-size", "auto"], ["--config", str(tmp_path / "x.yaml")]):
        (tmp_path / "x.yaml").write_text("batch-size: auto\n")
        (read,) = parse("", words, TrainingArguments, prog="x")
        assert read.gradient_accumulation_steps == 0
    with pytest.raises(InputError, match="'many': must be a whole number or auto"):
        parse("", ["--batch-size", "many"], TrainingArguments, prog="x")


def test_the_trial_leaves_the_model_as_it_is(trainer):
    run = trainer()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    state = torch.get_rng_state()
    assert run._step_trial().fits(run.share)
    assert all(torch.equal(before[n], v) for n, v in run.model.state_dict().items())
    assert all(p.grad is None for p in run.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to"))
    assert is_out_of_memory(RuntimeError("std::bad_alloc"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))  # what oneDNN says
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(KeyboardInterrupt())


@pytest.mark.e2e
def test_a_run_goes_on_with_another_number_of_parts(tmp_path, trainer):
    """The batch is what counts; runs of earlier versions recorded the parts."""
    first = trainer()
    first.train()
    first.run.release()
    record = tmp_path / "run" / "run.json"
    known = json.loads(record.read_text())
    assert "gradient_accumulation_steps" not in known["config"]
    known["config"]["gradient_accumulation_steps"] = 1
    record.write_text(json.dumps(known))
    shutil.rmtree(checkpoints(tmp_path / "run" / "checkpoints")[0])
    (tmp_path / "run" / "patchit.json").unlink()
    whole = load_file(tmp_path / "run" / "model.safetensors")
    trainer(gradient_accumulation_steps=4).train()
    parts = load_file(tmp_path / "run" / "model.safetensors")
    assert any(not torch.equal(whole[name], parts[name]) for name in whole)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.e2e
def test_a_run_goes_on_with_another_cache(tmp_path, crop_folder, caplog):
    """Where decoded crops live is no part of a run, also where no cache was ever made."""
    from patchit_hf.pretrain import main

    words = [
        "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "8", "--max-steps", "2",
        "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "--no-figures", "--no-audit",
        "--workers", "0", "--save-every", "1", "--dataset", crop_folder, "--output-dir",
    ]  # fmt: skip
    ends = []
    for first, second in (("0", "1"), ("1", "0")):
        run = tmp_path / f"run-{first}"
        assert main([*words, str(run), "--crop-cache-gb", first]) == 0
        (run / "patchit.json").unlink()
        shutil.rmtree(checkpoints(run / "checkpoints")[0])
        with caplog.at_level(logging.INFO):
            assert main([*words, str(run), "--crop-cache-gb", second]) == 0
        assert "continuing after step 1 of 2" in caplog.text
        caplog.clear()
        ends.append(load_file(run / "model.safetensors"))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_batch_normalisation_in_other_parts_is_said(tmp_path, crops, small, caplog):
    def trained(parts):
        settings = {"max_steps": 2, "train_batch_size": 8, "save_steps": 1, "figures": False}
        args = TrainingArguments(
            output_dir=str(tmp_path / "run"), gradient_accumulation_steps=parts, **settings
        )
        run = PatchTaskTrainer(
            "test_resnet", args, create_task("position", (50, 25), **small), crops
        )
        run.train()
        run.run.release()

    trained(1)
    (tmp_path / "run" / "patchit.json").unlink()
    shutil.rmtree(checkpoints(tmp_path / "run" / "checkpoints")[0])
    with caplog.at_level(logging.INFO):
        trained(2)
    assert "each batch is in 2 parts now, in 1 before" in caplog.text

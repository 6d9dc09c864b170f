import argparse
import os
import subprocess
import sys

import pytest
import shtab

import patchit_hf
from patchit_hf.common import cli
from patchit_hf.shell.commands import BY_NAME, COMMANDS
from patchit_hf.shell.completion import whole_parser
from patchit_hf.shell.main import main

NO_TORCH = """
import contextlib, io, sys
from patchit_hf.shell.commands import BY_NAME
from patchit_hf.shell.main import main

def run(*words):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(list(words))
        except SystemExit as end:
            code = end.code
    heavy = sorted({"torch", "numpy", "PIL", "datasets", "timm"} & set(sys.modules))
    print(*words, code, *heavy)

run(); run("--version"); run("tasks")
for name in BY_NAME:
    run(name, "--help")
run("pretrain", "--task", "positon"); run("pretrain", "--canvas", "200")
run("pretrain", "--backbone", "resnet81"); run("finetune", "--task", "atributes")
run("finetune", "--backbone", "resnet81"); run("compare", "--backbone", "resnet81")
run("evaluate", "--no-such"); run("audit", "--canvas", "x"); run("pretrain", "--config", "none")
run("pretrain", "--config", sys.argv[1] + "/args.yaml")
run("finetune", "--config", sys.argv[2] + "/args.yaml")
"""


def test_help_typos_and_finished_runs_are_answered_without_torch_or_numpy(export, finetuned):
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, str(export), str(finetuned("attributes"))],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    helps = [f"{name} --help 0" for name in BY_NAME]
    assert lines[: 3 + len(helps)] == [" 0".strip(), "--version 0", "tasks 0", *helps]
    assert lines[3 + len(helps) :] == [
        "pretrain --task positon 2", "pretrain --canvas 200 2", "pretrain --backbone resnet81 2",
        "finetune --task atributes 2", "finetune --backbone resnet81 2",
        "compare --backbone resnet81 2", "evaluate --no-such 2", "audit --canvas x 2",
        "pretrain --config none 2", f"pretrain --config {export}/args.yaml 0",
        f"finetune --config {finetuned('attributes')}/args.yaml 0",
    ]  # fmt: skip


def test_help_names_every_command(capsys):
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        text = capsys.readouterr().out
        for command in COMMANDS:
            assert f"\n  {command.name} " in text
            assert command.summary in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"patchit {patchit_hf.__version__}\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["pretrian"], "error: 'pretrian': no such command; did you mean pretrain?"),
        (["zzz"], f"error: 'zzz': no such command (commands: {', '.join(BY_NAME)})"),
        (["--dataset", "x"], "error: --dataset: the command comes first; see patchit --help"),
    ],
)
def test_unknown_commands(words, line, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_is_described(command, capsys):
    with pytest.raises(SystemExit) as end:
        main(["help", command.name])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: patchit {command.name} ")
    assert f"\n  patchit {command.name} " in text or command.name == "crops"
    assert "python -m" not in text


def test_flags_that_do_nothing_are_not_shown(capsys):
    for name, absent in (
        ("audit", ("--epochs", "--learning-rate", "--output-dir", "--backbone", "--push-to-hub")),
        ("compare", ("--learning-rate ", "--push-to-hub", "--hub-model-id")),
    ):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        text = capsys.readouterr().out
        assert [flag for flag in absent if flag in text] == []


def test_no_flag_can_be_shortened(capsys):
    assert main(["pretrain", "--batch", "8", "--back", "resnet18"]) == 2
    assert capsys.readouterr().err == "error: --batch: no such flag; did you mean --batch-size?\n"


def test_tasks_are_listed_with_their_first_lines(capsys):
    assert main(["tasks"]) == 0
    text = capsys.readouterr().out
    assert "  position  Position: which cell of the crop was this patch cut from?\n" in text
    assert "  reid        Re-identification: find the same person in another image.\n" in text
    assert "presets: pt18 (position), pt8 (position)\n" in text


def test_the_options_of_a_task(capsys):
    assert main(["tasks", "pt8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "patchit pretrain --task pt8 --task-kwargs KEY=VALUE ..."
    assert "  rows          4" in lines
    assert main(["tasks", "pose"]) == 0
    assert "  decode        dark" in capsys.readouterr().out.splitlines()
    assert main(["tasks", "pos"]) == 2
    assert capsys.readouterr().err.endswith("did you mean pose?\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_flags_and_choices(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*BY_NAME, "--task-kwargs" if shell != "fish" else "task-kwargs", "squash", "pt18"):
        assert word in script, word


def test_files_are_completed_as_files():
    (below,) = [a for a in whole_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    actions = {a.dest: a for a in below.choices["evaluate"]._actions}
    assert actions["dataset"].complete == actions["model"].complete == shtab.FILE
    assert actions["fit"].choices == ("squash", "cover")


def test_completion_of_an_unknown_shell(capsys):
    assert main(["completion", "dash"]) == 2
    assert capsys.readouterr().err == "error: SHELL 'dash': must be one of bash, zsh, fish\n"


def test_every_field_of_every_command_has_one_flag():
    for command in COMMANDS:
        module = command.load()
        fields = cli.fields_of(*module.ARGUMENTS, without=getattr(module, "WITHOUT", ()))
        flags = [item.metadata["flag"] for item, _ in fields.values()]
        assert len(flags) == len(set(flags)), command.name

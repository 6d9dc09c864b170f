"""Every run's folder has its arguments, and ``--config`` takes them back."""

import yaml

from patchit_hf import FinetuningArguments, PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.common import cli
from patchit_hf.pretrain.command import ARGUMENTS as PRETRAIN
from patchit_hf.shell.main import main


def arguments(folder):
    return yaml.safe_load((folder / "args.yaml").read_text())


def test_pretraining_takes_its_arguments_back(export, capsys):
    written = arguments(export)
    assert (written["backbone"], written["canvas"]) == ("test_resnet", "50x25")
    assert written["task-kwargs"] == {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2}
    assert (written["seed"], written["learning-rate"], written["figures"]) == (42, 4e-3, False)
    assert main(["pretrain", "--config", str(export / "args.yaml")]) == 0
    assert f"{export}: this run is finished" in capsys.readouterr().err
    assert main(["pretrain", "--config", str(export / "args.yaml"), "--seed", "1"]) == 2
    assert "these differ: seed (42 there, 1 here)" in capsys.readouterr().err


def test_finetuning_takes_its_arguments_back(finetuned, capsys):
    folder = finetuned("attributes")
    assert main(["finetune", "--config", str(folder / "args.yaml")]) == 0
    assert f"{folder}: this run is finished" in capsys.readouterr().err


def test_a_run_in_python_writes_them_too(tmp_path, crops, small):
    args = TrainingArguments(output_dir=str(tmp_path / "run"), max_steps=1, train_batch_size=8)
    task = create_task("position", (50, 25), **small)
    trainer = PatchTaskTrainer("test_resnet", args, task, crops)
    trainer.run.start()
    trainer.run.release()
    what, back = cli.parse(
        "", ["--config", str(tmp_path / "run" / "args.yaml")], *PRETRAIN, prog="pretrain"
    )
    assert (what.backbone, what.task, what.canvas) == ("test_resnet", "position", "50x25")
    assert what.task_kwargs["patch_size"] == 8
    assert back == args.settled(random=True)


def test_evaluation_needs_no_folder_beside_its_arguments(finetuned, tmp_path, capsys):
    folder, output = finetuned("action"), tmp_path / "judged"
    data = arguments(folder)["dataset"]
    words = ["evaluate", str(folder), "--dataset", data, "--split", "test", "--bootstrap", "0"]
    assert main([*words, "--output-dir", str(output)]) == 0
    first = (output / "predictions.parquet").read_bytes()
    (output / "predictions.parquet").unlink()
    assert main(["evaluate", "--config", str(output / "args.yaml")]) == 0
    assert (output / "predictions.parquet").read_bytes() == first


def test_the_arguments_of_another_command_are_refused(export, capsys):
    assert main(["finetune", "--config", str(export / "args.yaml")]) == 2
    assert "unknown key" in capsys.readouterr().err
    assert FinetuningArguments().seed == 42

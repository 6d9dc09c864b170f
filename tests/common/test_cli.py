import pytest

from patchit_hf.common import cli
from patchit_hf.common.arguments import identity
from patchit_hf.common.errors import InputError
from patchit_hf.pretrain.arguments import PretrainArguments, TrainingArguments


def parse(*argv):
    return cli.parse("words", list(argv), PretrainArguments, TrainingArguments, prog="p")


def test_defaults_are_the_dataclasses():
    assert parse() == (PretrainArguments(), TrainingArguments())


def test_flags_with_dashes_and_underscores():
    what, args = parse(
        "--backbone", "vgg16", "--task_kwargs", "rows=4", "jitter=0", "grayscale=0.2",
        "--batch_size", "64", "--learning-rate=3e-4", "--streaming", "--no-push-to-hub",
    )  # fmt: skip
    assert what.backbone == "vgg16"
    assert what.streaming
    assert what.task_kwargs == {"rows": 4, "jitter": 0, "grayscale": 0.2}
    assert (args.train_batch_size, args.learning_rate) == (64, 3e-4)
    assert not args.push_to_hub


def test_config_file_by_flag_or_field_name_and_the_command_line_wins(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "backbone: vgg16\nlearning-rate: 1e-2\ntrain_batch_size: 32\nepochs: 3\n"
        "task_kwargs: {rows: 4}\n"
    )
    what, args = parse("--config", str(file), "--batch-size", "16")
    assert (what.backbone, what.task_kwargs) == ("vgg16", {"rows": 4})
    assert (args.learning_rate, args.train_batch_size, args.num_train_epochs) == (0.01, 16, 3.0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_config_file_as_editors_on_windows_write_it(tmp_path, encoding):
    file = tmp_path / "c.yaml"
    file.write_bytes("backbone: vgg16\r\ntask_kwargs:\r\n\trows: 4\r\n".encode(encoding))
    what, _ = parse("--config", str(file))
    assert (what.backbone, what.task_kwargs) == ("vgg16", {"rows": 4})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backbon: resnet18", "unknown key 'backbon'; did you mean backbone?"),
        ("batch-size: many", "batch-size: 'many' must be of type int"),
        ("streaming: 3", "streaming: 3 must be of type bool"),
        ("- a\n- b", "must contain KEY: VALUE lines"),
        ("a: [", "--config"),
    ],
)
def test_bad_config(tmp_path, text, message):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        parse("--config", str(file))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch-size", "x"], "--batch-size: 'x': must be a whole number"),
        (["--learning-rate", "fast"], "--learning-rate: 'fast': must be a number"),
        (["--unknown"], "--unknown"),
        (["--task-kwargs", "rows"], "--task-kwargs 'rows': expected KEY=VALUE"),
        (["--config", "none.yaml"], "--config 'none.yaml': no such file"),
        (["--mixed-precision", "fp4"], "must be one of no, bf16, fp16"),
    ],
)
def test_bad_words(argv, message):
    with pytest.raises(InputError) as error:
        parse(*argv)
    assert message in str(error.value)


def test_help_is_grouped_and_shows_defaults(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    for group in ("model:", "data:", "task:", "training:", "evaluation:", "output:", "hub:"):
        assert f"\n{group}\n" in text
    assert "--batch-size" in text
    assert "(default: 256)" in text
    for flag in (
        "--backbone --dataset --split --image-column --streaming --canvas --fit --task "
        "--task-kwargs --epochs --max-steps --batch-size --learning-rate --weight-decay "
        "--optimizer --warmup --mixed-precision --gradient-accumulation-steps --workers --seed "
        "--output-dir --save-every --save-limit --max-eval-crops --report-to --push-to-hub "
        "--hub-model-id --config"
    ).split():
        assert f"{flag} " in text or f"{flag}," in text, flag


def test_identity_leaves_out_what_does_not_change_the_weights():
    config = identity(PretrainArguments(), TrainingArguments())
    assert {"backbone", "seed", "learning_rate", "train_batch_size", "fit"} <= set(config)
    assert not {"output_dir", "dataloader_num_workers", "push_to_hub"} & set(config)

"""A card tells of somebody else's data: their text is shown, and what is private is not."""

import copy
import json
import re

import pytest
import yaml

from patchit_hf.publish.card import main as card_main
from patchit_hf.publish.model_card import render_card
from tests.publish.test_export import RECORD

HOSTILE = "\n# Heading\n<script>alert(1)</script> | cell\n---\n```\n[a](javascript:b) \x1b[31m"
CONFIG = {
    "architecture": "resnet18", "num_classes": 0,
    "pretrained_cfg": {"input_size": [3, 192, 96], "mean": [0.4] * 3, "std": [0.2] * 3},
}  # fmt: skip
WHOLE = {
    **RECORD,
    "backbone": {"name": "resnet18", "args": {}},
    "task": {
        "name": "position", "kwargs": {"rows": 6}, "canvas": [200, 100], "num_classes": 18,
        "input_size": [32, 32],
    },
    "versions": {"torch": "2"},
}  # fmt: skip
WAY = "/home/somebody/Private"


def _card(**changes):
    record = copy.deepcopy(WHOLE)
    for key, value in changes.items():
        record[key] = {**record[key], **value} if isinstance(value, dict) else value
    return render_card(record, CONFIG)


def _outside_of_blocks(text):
    """A card without its header and blocks of code: what is read as Markdown."""
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", body)


def test_text_of_a_data_set_is_shown_and_not_obeyed():
    plain_header, plain_body = _outside_of_blocks(_card())
    data = dict.fromkeys(("license", "name", "homepage", "citation", "held_out_from"), HOSTILE)
    text = _card(data=data, training={"stopped": HOSTILE, "hardware": HOSTILE})
    header, body = _outside_of_blocks(text)
    headings = [line for line in body.splitlines() if line.startswith("#")]
    usual = [line for line in plain_body.splitlines() if line.startswith("#")]
    assert headings[1:] == usual[1:]
    words = re.sub(r"(?<![\\`])(`+)(?!`).+?(?<!`)\1(?!`)", "", body)  # without code in a line
    assert "<script" not in words
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\| cell" in body
    assert "\x1b" not in text
    assert "](javascript" not in words.replace("\\](", "")
    assert header.keys() == plain_header.keys()
    assert header["license"] == "other"


def test_no_card_names_a_local_path():
    start = {
        "init": f"{WAY}/start", "source": f"{WAY}/start", "license": None, "labels": [],
        "labels_known": False, "earlier": [], "trained": None, "fingerprint": "f",
    }  # fmt: skip
    command = (
        f"python -m patchit_hf.pretrain --dataset {WAY}/crops --output-dir={WAY}/run --init ~/w"
    )
    record = {**WHOLE, "command": command, "initial_weights": start}
    record["data"] = {**WHOLE["data"], "name": f"{WAY}/crops"}
    text = render_card(record, CONFIG)
    assert WAY not in text
    assert "somebody" not in text
    assert "--dataset crops --output-dir=run --init w\n" in text
    header, _ = _outside_of_blocks(text)
    (entry,) = header["model-index"][0]["results"]
    assert entry["dataset"] == {"type": "crops", "name": "crops, held-out crops"}


@pytest.fixture
def export(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "patchit.json").write_text(json.dumps(WHOLE))
    (tmp_path / "run" / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "run"


ODD = {
    "no data": ({**WHOLE, "data": None}, "AttributeError"),
    "no task": ({k: v for k, v in WHOLE.items() if k != "task"}, "KeyError: 'task'"),
    "no such task": ({**WHOLE, "task": {**WHOLE["task"], "name": "x"}}, "ModuleNotFoundError"),
    "words for numbers": ({**WHOLE, "training": {"seconds": "x"}}, "TypeError"),
    "a list of figures": ({**WHOLE, "figures": {"a": 1}}, None),
    "finetuned": ({**WHOLE, "downstream": {}}, "holds a finetuned model"),
    "averaged": ({**WHOLE, "averaged": [1]}, "TypeError"),
    "a figure that is not there": ({**WHOLE, "figures": ["filters.png"]}, "figures/filters.png"),
}  # fmt: skip


@pytest.mark.parametrize(("record", "words"), ODD.values(), ids=ODD)
def test_an_odd_record_is_one_line(export, capsys, record, words):
    (export / "patchit.json").write_text(json.dumps(record))
    code = card_main([str(export), "--output", str(export / "card")])
    said = capsys.readouterr().err
    if words is None:
        assert code == 0
        return
    assert (code, len(said.splitlines())) == (2, 1), said
    assert said.startswith("error: ")
    assert words in said
    assert not (export / "card").exists()


@pytest.mark.parametrize("name", ["patchit.json", "config.json"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "is damaged"),
        (b'{"a":' * 100_000, "is damaged"),
        (b"\xff\xfe{}", "is damaged"),
        (b"[1]", "must contain a JSON object"),
        (b"{}", "damaged"),
    ],
)
def test_a_damaged_file_is_one_line(export, capsys, name, content, words):
    (export / name).write_bytes(content)
    assert card_main([str(export), "--output", str(export / "card")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert words in said


def test_an_export_without_configuration_is_one_line(export, capsys):
    (export / "config.json").unlink()
    assert card_main([str(export), "--output", str(export / "card")]) == 2
    assert "it has no config.json" in capsys.readouterr().err

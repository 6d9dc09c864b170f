"""Numbers of somebody else's export do not take the machine's memory or time."""

import json
import shutil
import time

import numpy as np
import pytest
import torch
from torch import nn

from patchit_hf.average.sources import open_source
from patchit_hf.common.errors import InputError
from patchit_hf.models import bounds
from patchit_hf.models.bounds import check_sides, check_size
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.models.patch_task_model import PatchTaskModel


def _changed(folder, name, change):
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))


@pytest.fixture
def run(export, tmp_path):
    return shutil.copytree(export, tmp_path / "run")


def test_a_network_is_given_up_while_it_grows(monkeypatch):
    made = []

    def deep():
        return nn.Sequential(*(made.append(1) or nn.Linear(1, 1) for _ in range(1000)))

    monkeypatch.setattr(bounds, "LAYERS", 100)
    with pytest.raises(InputError, match=r"^here: describes a network of more than 100 layers and"):
        check_size(deep, {"weight": (2, 3)}, "here")
    assert len(made) <= 51
    with pytest.raises(InputError, match=r"more than 200,000,000 weights, .* beside it are 6;"):
        check_size(lambda: nn.Linear(10**6, 10**6), {"weight": (2, 3)}, "here")
    big = {"weight": (20_000, 20_000)}
    built = check_size(lambda: nn.Linear(20_000, 20_000, bias=False), big, "here")
    assert built.weight.device.type == "meta"
    assert nn.Linear(2, 2).weight.device.type == "cpu"  # and it is over afterwards
    with pytest.raises(
        InputError, match="here: the network that it describes cannot be built: 'x'"
    ):
        check_size(lambda: (_ for _ in ()).throw(KeyError("x")), {}, "here")


@pytest.mark.parametrize("sides", [[10**9, 10], [0, 1], [200.0, 100], [True, 2], [1], None, "ab"])
def test_a_canvas_of_a_record_is_two_sensible_numbers(sides):
    with pytest.raises(InputError, match=r"canvas: .* must be height and width in pixels"):
        check_sides(sides, "canvas")


HUGE = {
    "a wide stem": lambda r: r["backbone"]["args"].update(stem_width=10**7),
    "a wide head": lambda r: r["task"]["kwargs"].update(head_hidden=10**9),
    "a huge canvas": lambda r: r["task"].update(canvas=[10**9, 10**9]),
    "an argument that timm does not know": lambda r: r["backbone"]["args"].update(nonsense=[{}]),
    "arguments of another kind": lambda r: r["backbone"].update(args=[1]),
    "no size": lambda r: r["task"].update(canvas=3),
    "options of another kind": lambda r: r["task"].update(kwargs=3),
    "a task of another kind": lambda r: r["task"].update(name=["position"]),
    "an architecture of another kind": lambda r: r["backbone"].update(name={"a": 1}),
}


@pytest.mark.parametrize("change", HUGE.values(), ids=HUGE)
def test_an_odd_record_of_an_export_is_one_line_at_once(run, change):
    _changed(run, "patchit.json", change)
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        PatchTaskModel.from_pretrained(run)
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)
    assert time.process_time() - began < 20


def test_odd_arguments_of_initial_weights_are_one_line(run):
    _changed(run, "config.json", lambda c: c.update(model_args={"stem_width": 10**7}))
    with pytest.raises(InputError, match=r"--init .*describes a network of|cannot be"):
        open_initial(str(run), None, 0)
    assert open_source(str(run)).config["model_args"] == {"stem_width": 10**7}


def test_an_odd_record_of_a_finetuned_model_is_one_line(finetuned, tmp_path):
    folder = shutil.copytree(finetuned("action"), tmp_path / "run")
    original = (folder / "patchit.json").read_text()
    _changed(folder, "config.json", lambda c: c.update(model_args={"stem_width": 10**7}))
    with pytest.raises(InputError, match=r"describes a network|cannot be built"):
        FinetunedModel.from_pretrained(folder)
    shutil.copy(finetuned("action") / "config.json", folder)
    for key, value in (("canvas", [10**8, 4]), ("kwargs", 3), ("task", "../x"), ("size", None)):
        (folder / "patchit.json").write_text(original)
        _changed(folder, "patchit.json", lambda r, k=key, v=value: r["downstream"].update({k: v}))
        with pytest.raises(InputError, match=r"patchit\.json"):
            FinetunedModel.from_pretrained(folder)


@pytest.mark.parametrize("damage", ["cut", "header", "length", "empty", "text", "nested"])
def test_damaged_weights_are_one_line_everywhere(run, tmp_path, damage):
    good = (run / "model.safetensors").read_bytes()
    bad = {
        "cut": good[: len(good) // 2],
        "header": good[:8] + b"{" * 50 + good[58:],
        "length": b"\xff" * 8 + good[8:],
        "empty": b"",
        "text": b"no weights at all",
        "nested": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    }[damage]
    (run / "model.safetensors").write_bytes(bad)
    file = tmp_path / "w.safetensors"
    file.write_bytes(bad)
    ways = (
        lambda: PatchTaskModel.from_pretrained(run),
        lambda: open_initial(str(run), None, 0),
        lambda: open_initial(str(file), "test_resnet", 0),
    )
    for way in ways:
        with pytest.raises(InputError, match=r"cannot be read") as caught:
            way()
        assert "\n" not in str(caught.value)


def test_the_whole_export_is_read_as_before(run):
    model = PatchTaskModel.from_pretrained(run)
    assert np.isfinite(model.embed(torch.zeros(3, 200, 100))).all()

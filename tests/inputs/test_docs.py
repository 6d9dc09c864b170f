"""The tables of docs/inputs.md have the same entries as the tests."""

import importlib
import inspect
import re
from pathlib import Path

import torch
from safetensors.torch import load_file

import patchit_hf
from tests.inputs.test_arguments import UNDERSTOOD
from tests.inputs.test_data import WORKS
from tests.inputs.test_models import MODELS

TEXT = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text()


def _entries(heading):
    part = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [name.strip("`") for name in re.findall(r"^\| (`?.+?`?) \|", part, re.M)][1:]


def test_the_tables_are_the_tests():
    assert _entries("Data sets") == list(WORKS)
    assert _entries("Models") == list(MODELS)
    assert _entries("Arguments") == list(UNDERSTOOD)


def test_every_loader_takes_what_the_page_says():
    part = TEXT.split("## Loaders\n")[1].split("\n| argument")[0]
    named = [name for name in re.findall(r"`([\w.]+)`", part) if name not in _entries("Loaders")]
    assert len(named) == 11
    for name in named:
        module, _, short = name.rpartition(".")
        if module.startswith("patchit_hf."):
            loader = getattr(importlib.import_module(module), short)
        else:
            loader = patchit_hf
            for word in name.split("."):
                loader = getattr(loader, word)
        names = set(inspect.signature(loader).parameters)
        wanted = {"cache_dir", "token", *(["revision"] if short != "average" else [])}
        assert wanted <= names, name


def test_the_way_into_a_detector(export):
    code = TEXT.split("## DETR")[1].split("```python\n")[1].split("```")[0]
    small = (
        "num_queries=5, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, "
        "decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2"
    )
    code = code.replace("resnet18", "test_resnet").replace("FOLDER", str(export))
    code = code.replace("backbone_config=backbone)", f"backbone_config=backbone, {small})")
    names: dict[str, object] = {}
    exec(code, names)
    state = names["detector"].model.backbone.model.state_dict()
    wanted = load_file(export / "model.safetensors")
    taken = [name for name in wanted if name in state]
    assert len(taken) == len([name for name in state if "num_batches" not in name])
    assert all(torch.equal(state[name], wanted[name]) for name in taken)

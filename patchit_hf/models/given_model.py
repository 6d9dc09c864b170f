"""A timm model that was given in Python, as initial weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from accelerate.utils.other import is_compiled_module
from torch import Tensor, nn

from patchit_hf.common.errors import InputError
from patchit_hf.models.feature_maps import feature_map
from patchit_hf.models.weights_fit import without_classifier

CLOSE = 1e-3  # difference of features, relative to the largest; positions may be resampled


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside ``torch.compile`` and distributed wrappers, in any order.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> unwrapped(torch.compile(model)) is model
        True
    """
    while True:
        whole = next(model.children()) if is_compiled_module(model) else model
        inner: nn.Module = extract_model_from_parallel(whole)
        if inner is model:
            return inner
        model = inner


def architecture_of(model: nn.Module) -> str:
    """Return timm's name of a model's architecture.

    Raises:
        InputError: if it is not one of timm's.
    """
    cfg: Any = getattr(model, "pretrained_cfg", None)
    name = cfg.get("architecture") if isinstance(cfg, dict) else None
    if not name:
        raise InputError(
            f"model: a {type(model).__name__}; expected a model of timm.create_model, the name of "
            "one, or, to pretrain, a PatchTaskModel or any module with timm's forward_features and "
            "num_features"
        )
    return str(name)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a timm model's weights and statistics, on the CPU, without classifier."""
    state = model.state_dict()
    names = without_classifier(state, model)
    return {name: state[name].detach().cpu().clone(memory_format=torch.contiguous_format)
            for name in names}  # fmt: skip


def check_rebuilt(given: nn.Module, rebuilt: nn.Module, size: tuple[int, int]) -> None:
    """Check that the network that timm builds anew computes the same features, and drops as much.

    An export names the network's arguments, so what is trained has to be what they build.

    Args:
        given: the model that was given.
        rebuilt: the network that was built by name and has its weights.
        size: height and width of the inputs, in pixels.

    Raises:
        InputError: if it does not.
    """
    name = architecture_of(given)
    remedy = (
        "give its arguments to build_model(None, task, seed, backbone_kwargs={...}, init=model)"
    )
    if _drop_rates(given) != _drop_rates(rebuilt):
        raise InputError(f"model: this {name} has other drop rates than timm's defaults; {remedy}")
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 3, *size, generator=rng)
    expected = _features(rebuilt, inputs)
    try:
        found = _features(given, inputs)
    except Exception:  # built for another size
        return
    if found.shape != expected.shape or (found - expected).abs().max() > CLOSE * max(
        float(expected.abs().max()), 1e-6
    ):
        raise InputError(
            f"model: this {name} was built with other arguments than timm's defaults, because its "
            f"features differ from theirs; {remedy}"
        )


def _features(model: nn.Module, inputs: Tensor) -> Tensor:
    if next(model.parameters()).dtype != torch.float32:  # which would round more than CLOSE
        model = copy.deepcopy(model).float()
    first, training = next(model.parameters()), model.training
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            return feature_map(model, inputs.to(first.device, first.dtype)).float().cpu()
    finally:
        model.train(training)
        for module, mode in modes.items():
            module.training = mode


def _drop_rates(model: nn.Module) -> dict[str, float]:
    """Return the rates of dropout and stochastic depth that are above 0, by module."""
    rates = {}
    for name, module in model.named_modules():
        rate = getattr(module, "drop_prob", module.p if isinstance(module, nn.Dropout) else 0.0)
        if isinstance(rate, float) and rate > 0:
            rates[name] = rate
    return rates

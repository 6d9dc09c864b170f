"""The layers of a timm backbone: their learning rates, and those that are not trained."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn

from patchit_hf.common.errors import InputError


def layered_groups(
    whole: nn.Module,
    backbone: nn.Module,
    head: nn.Module | None,
    weight_decay: float,
    layer_decay: float | None,
) -> Any:
    """Return what the optimiser trains.

    Args:
        whole: the model with backbone and head.
        backbone: the timm model.
        head: a head that is no part of the backbone, or None.
        weight_decay: weight decay of kernels and of the head.
        layer_decay: factor of the learning rate from one layer to the one below it; None for one
            learning rate, without groups.

    Returns:
        ``whole``, or groups of parameters with their ``lr_scale``.
    """
    if layer_decay is None:
        return whole
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        backbone, weight_decay, layer_decay=layer_decay
    )
    if head is not None:
        groups.append({"params": list(head.parameters()), "weight_decay": weight_decay})
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    return [group for group in groups if group["params"]]


def freeze_stages(backbone: Any, count: int, name: str) -> list[str]:
    """Freeze the stem of a timm model and its first stages, as timm groups them.

    The stages of a vision transformer are its blocks.

    Args:
        backbone: the model; changed in place.
        count: number of stages after the stem; 0 freezes nothing.
        name: what errors call the model.

    Returns:
        The names of the frozen parameters.

    Raises:
        InputError: if the model has too few stages, or does not name them.

    Example:
        >>> import timm
        >>> model = timm.create_model("resnet10t", num_classes=0)
        >>> len(freeze_stages(model, 1, "resnet10t")), model.layer2[0].conv1.weight.requires_grad
        (15, True)
    """
    if count == 0:
        return []
    if not hasattr(backbone, "group_matcher"):
        raise InputError(f"--freeze-stages {count}: {name} does not name its stages")
    groups = group_parameters(backbone, backbone.group_matcher(coarse=True))
    stages = sorted(groups)
    if count > len(stages) - 2:
        raise InputError(
            f"--freeze-stages {count}: {name} has {len(stages) - 1} stages, of which the last is "
            "always trained"
        )
    frozen = [parameter for stage in stages[: count + 1] for parameter in groups[stage]]
    for parameter in frozen:
        backbone.get_parameter(parameter).requires_grad_(False)
    return frozen


def reinitialize_last_stage(backbone: Any, seed: int) -> str:
    """Give the last stage random weights again and return its name.

    A pretext task specialises the deep stages most (Yosinski et al., NeurIPS 2014).

    Raises:
        InputError: if the network does not name its stages.
    """
    info: Any = getattr(backbone, "feature_info", None)
    stages = getattr(info, "info", info)
    name = str(stages[-1].get("module", "")) if isinstance(stages, list) and stages else ""
    try:
        stage = backbone.get_submodule(name)
    except AttributeError:
        stage = backbone
    if not name or stage is backbone:
        raise InputError("--reinit-last-stage: this backbone does not name its stages")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in stage.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return name

"""A patch-task model from the name of a network, from random or other initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.hub_access import HubAccess
from patchit_hf.models.backbone import BackboneSpec, build_backbone, num_features, pretraining_args
from patchit_hf.models.feature_maps import feature_map
from patchit_hf.models.given_model import check_rebuilt, unwrapped
from patchit_hf.models.initial_weights import Initial, Statistics, open_initial
from patchit_hf.models.origin import GIVEN, Origin, fingerprint
from patchit_hf.models.own_network import expected_statistics, is_own, own_backbone
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.models.weights_fit import backbone_state
from patchit_hf.patch_tasks.base import PatchTask


def build_model(
    name: str | None,
    task: PatchTask,
    seed: int,
    backbone_kwargs: dict[str, Any] | None = None,
    *,
    init: str | nn.Module = "random",
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> PatchTaskModel:
    """Build a backbone for a task, with the task's head.

    Args:
        name: timm's model name, without a tag; None where ``init`` brings the network.
        task: the patch task.
        seed: seed of the random weights.
        backbone_kwargs: further arguments of the timm model.
        init: the backbone's initial weights, as ``open_initial`` takes them, or any module with
            timm's ``forward_features`` and ``num_features``, which is the backbone then.
        revision: branch, tag or commit of initial weights on the Hub.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.

    Raises:
        InputError: see ``build_backbone`` and ``open_initial``.

    Example:
        >>> import timm
        >>> from patchit_hf import create_task
        >>> given = timm.create_model("resnet10t", num_classes=10)
        >>> model = build_model(None, create_task("position"), seed=0, init=given)
        >>> torch.equal(model.backbone.conv1[0].weight, given.conv1[0].weight)
        True
    """
    access = HubAccess(revision, cache_dir, token)
    backbone, spec, origin, statistics = _backbone(
        name, task, seed, backbone_kwargs or {}, init, access
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = task.head(num_features(backbone))
    model = PatchTaskModel(backbone, head, spec, task, origin=origin, statistics=statistics)
    if origin is None:
        model.drawn = seed, fingerprint(backbone_state(backbone))
    return model


def _backbone(
    name: str | None,
    task: PatchTask,
    seed: int,
    kwargs: dict[str, Any],
    init: str | nn.Module,
    access: HubAccess,
) -> tuple[nn.Module, BackboneSpec, Origin | None, Statistics | None]:
    """Return a backbone, how it was built, where its weights come from and what they expect."""
    if isinstance(init, str) and init == "random":
        access.refuse_revision(init)
        if name is None:
            raise InputError("--init 'random': needs --backbone, such as resnet18")
        return (*build_backbone(name, task.input_size, seed, **kwargs), None, None)
    if isinstance(init, str) or not is_own(unwrapped(init)):
        initial, spec = _initial(name, task.input_size, seed, kwargs, init, access)
        return initial.backbone, spec, initial.origin, initial.statistics
    access.refuse_revision("model")
    if name is not None or kwargs:
        raise InputError(
            f"model: a {type(unwrapped(init)).__name__} is trained as it is; give neither the "
            "name nor the arguments of a timm model"
        )
    backbone, spec = own_backbone(unwrapped(init), task)
    origin = Origin(GIVEN, spec.name, GIVEN, fingerprint=fingerprint(backbone_state(backbone)))
    return backbone, spec, origin, expected_statistics(backbone)


def _initial(
    name: str | None,
    size: tuple[int, int],
    seed: int,
    kwargs: dict[str, Any],
    init: Any,
    access: HubAccess,
) -> tuple[Initial, BackboneSpec]:
    """Open initial weights as a backbone for inputs of this size, in training mode."""
    initial = open_initial(
        init,
        name,
        0,
        seed=seed,
        input_size=size,
        backbone_kwargs=kwargs,
        network_args=lambda known: pretraining_args(known, size)[0],
        **access.options(),
    )
    name, backbone = initial.name, initial.backbone
    if initial.args.get("in_chans", 3) != 3:
        raise InputError(
            f"--init {initial.source!r}: this {name} takes {initial.args['in_chans']} input "
            "channels; person crops have 3"
        )
    backbone.eval()
    try:
        with torch.no_grad():
            features = feature_map(backbone, torch.zeros(2, 3, *size))
    except Exception as error:  # a network may fail in any way on an unsuitable size
        build_backbone(name, size, seed, **kwargs)  # says which size it can process
        raise InputError(f"--init {initial.source!r}: {name} fails: {one_line(error)}") from error
    if not bool(torch.isfinite(features).all()):
        raise InputError(f"--init {initial.source!r}: the features of {name} are not finite")
    if not isinstance(init, str):
        check_rebuilt(unwrapped(init), backbone, size)
    backbone.train()
    return initial, BackboneSpec(name, initial.args, pretraining_args(name, size)[1])


def freeze_unreached(model: PatchTaskModel, input_size: tuple[int, int]) -> None:
    """Freeze the parameters that do not affect the head's output.

    These are timm's ``forward_head`` layers, which come after the feature map. Distributed training
    would wait for their gradients forever, and weight decay would shrink them.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    model.features(torch.zeros(1, 3, *input_size, device=device)).sum().backward()
    for parameter in model.backbone.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
    model.train(was_training)

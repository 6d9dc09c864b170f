"""``config.json``: how timm and transformers build an exported network and feed it."""

from __future__ import annotations

import copy
from typing import Any

import torch

from patchit_hf.models.backbone import feature_map, num_features


def timm_config(
    backbone: Any,
    name: str,
    args: dict[str, Any],
    *,
    tag: str,
    input_size: tuple[int, int],
    fixed_size: bool,
    crop_pct: float,
    mean: list[float],
    std: list[float],
    num_classes: int = 0,
    pool_size: list[int] | None = None,
    interpolation: str = "bicubic",
) -> dict[str, Any]:
    """Return timm's configuration; nothing is inherited from timm's default weights.

    Args:
        backbone: the timm model.
        name: timm's name of its architecture.
        args: arguments beyond timm's defaults that built it.
        tag: of these weights.
        input_size: height and width, in pixels.
        fixed_size: whether the network takes only this size.
        crop_pct: share of a resized image's side that timm cuts the input from.
        mean: per channel, of crops in [0, 1].
        std: per channel.
        num_classes: outputs of the classifier; 0 for none.
        pool_size: height and width of the feature map, where timm's configuration has them.
        interpolation: how images are resized.
    """
    source: dict[str, Any] = dict(getattr(backbone, "pretrained_cfg", None) or {})
    cfg: dict[str, Any] = {
        "tag": tag,
        "custom_load": False,
        "input_size": [3, *input_size],
        "fixed_input_size": fixed_size,
        "interpolation": interpolation,
        "crop_pct": round(crop_pct, 4),
        "crop_mode": "squash",
        "mean": mean,
        "std": std,
        "num_classes": num_classes,
        "pool_size": pool_size,
        "first_conv": source.get("first_conv"),
        "classifier": source.get("classifier"),
        "license": "other",
    }
    config: dict[str, Any] = {
        "architecture": name,
        "num_classes": num_classes,
        "num_features": num_features(backbone),
        "model_args": {k: v for k, v in args.items() if not k.endswith("_rate")},
        "pretrained_cfg": {key: value for key, value in cfg.items() if value is not None},
    }
    pool = args.get("global_pool") or source.get("global_pool") or pool_type(backbone)
    if pool:
        config["global_pool"] = pool
    return config


def averaged_config(
    backbone: Any, config: dict[str, Any], input_size: tuple[int, int]
) -> dict[str, Any]:
    """Return ``config.json`` of the average of several exports.

    Args:
        backbone: the network with the mean weights.
        config: ``config.json`` of one of the exports.
        input_size: height and width of the whole crops that the average is for, in pixels.
    """
    config = copy.deepcopy(config)
    cfg = config["pretrained_cfg"]
    cfg |= {"tag": "patchit_average", "input_size": [3, *input_size]}
    if "pool_size" in cfg:
        cfg["pool_size"] = map_size(backbone, input_size)
    return config


def map_size(backbone: Any, size: tuple[int, int]) -> list[int] | None:
    """Return height and width of the feature map, None where timm's configuration has none.

    Args:
        backbone: a timm model; its mode stays as it is.
        size: height and width of the input, in pixels.
    """
    if (getattr(backbone, "pretrained_cfg", None) or {}).get("pool_size") is None:
        return None
    device = next(backbone.parameters()).device
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        shape = feature_map(backbone, torch.zeros(1, 3, *size, device=device)).shape
    backbone.train(training)
    return list(shape[-2:])


def pool_type(backbone: Any) -> str | None:
    """Return how a timm model pools, None where it does not say."""
    pool = getattr(backbone, "global_pool", None)
    if isinstance(pool, str):
        return pool
    pool = getattr(pool, "pool_type", None) or getattr(
        getattr(getattr(backbone, "head", None), "global_pool", None), "pool_type", None
    )
    return pool if isinstance(pool, str) else None

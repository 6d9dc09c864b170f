"""Heads of downstream tasks; each takes unpooled features ``[B, C, H, W]``."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn


def hidden_head(num_features: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return the head of the PatchIt paper: pooling, one shared FC + ReLU, and all classifiers.

    Args:
        num_features: channels C.
        hidden: width of the shared layer.
        outputs: number of outputs of all classifiers together.

    Example:
        >>> import torch
        >>> hidden_head(8, hidden=16, outputs=5)(torch.rand(2, 8, 6, 3)).shape
        torch.Size([2, 5])
    """
    shared = nn.Linear(num_features, hidden)
    nn.init.kaiming_normal_(shared.weight, nonlinearity="relu")
    nn.init.zeros_(shared.bias)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(1), shared, nn.ReLU(), nn.Linear(hidden, outputs)
    )


class BNNeck(nn.Module):
    """Batch normalisation between the features of the triplet loss and those of the identity loss.

    Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019.

    Args:
        num_features: channels C.
        identities: number of classes of the identity loss.

    Example:
        >>> import torch
        >>> output = BNNeck(8, identities=5)(torch.rand(2, 8, 6, 3))
        >>> {name: tuple(value.shape) for name, value in output.items()}
        {'pooled': (2, 8), 'embedding': (2, 8), 'logits': (2, 5)}
    """

    def __init__(self, num_features: int, identities: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(num_features, identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, features: Tensor) -> dict[str, Any]:
        """Return ``pooled`` and ``embedding`` ``[B, C]``, and ``logits`` ``[B, identities]``."""
        pooled = features.mean((2, 3))
        embedding = self.norm(pooled)
        return {"pooled": pooled, "embedding": embedding, "logits": self.classifier(embedding)}


class HeatMaps(nn.Module):
    """Transposed convolutions from features to one heat map per joint.

    Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018, with fewer
    channels.

    Args:
        num_features: channels C.
        joints: number of heat maps.
        width: channels of each layer.
        layers: number of layers, each of which doubles the resolution.

    Example:
        >>> import torch
        >>> HeatMaps(8, joints=14, width=16)(torch.rand(1, 8, 6, 3)).shape
        torch.Size([1, 14, 48, 24])
    """

    def __init__(self, num_features: int, joints: int, width: int = 128, layers: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for i in range(layers):
            blocks += [
                nn.ConvTranspose2d(num_features if i == 0 else width, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        self.up = nn.Sequential(*blocks)
        self.joints = nn.Conv2d(width, joints, 1)
        nn.init.normal_(self.joints.weight, std=0.001)
        nn.init.zeros_(cast(Tensor, self.joints.bias))

    def forward(self, features: Tensor) -> Tensor:
        """Return heat maps ``[B, J, H, W]``."""
        maps: Tensor = self.joints(self.up(features))
        return maps

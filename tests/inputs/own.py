"""Networks that are not timm's, but have its ``forward_features`` and ``num_features``."""

import timm
import torch
from torch import nn

from patchit_hf import create_task


class Tiny(nn.Module):
    """Two convolutions; takes any size."""

    def __init__(self, width=8):
        super().__init__()
        self.num_features = width
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, 4, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
        )
        self.classifier = nn.Linear(width, 5)  # gets no gradient from a patch task

    def forward_features(self, x):
        return self.body(x)


class Wrapped(nn.Module):
    """A network of timm's inside of one that changes its features."""

    def __init__(self):
        super().__init__()
        self.net = timm.create_model("test_resnet", num_classes=0)
        self.scale = nn.Parameter(torch.ones(1))
        self.num_features = self.net.num_features

    def forward_features(self, x):
        return self.net.forward_features(x) * self.scale


class Tokens(nn.Module):
    """Gives tokens, and takes one size only."""

    num_features, num_prefix_tokens = 6, 1

    def __init__(self, size=8):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.position = nn.Parameter(torch.zeros(1, (size // 4) ** 2, 6))

    def forward_features(self, x):
        tokens = self.embed(x).flatten(2).mT + self.position
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


class Wrong(Tiny):
    """Says another number of features than it has."""

    def forward_features(self, x):
        return super().forward_features(x)[:, :3]


def position_task(**kwargs):
    """Positions of 8 px patches on a 50x25 canvas: 3 x 2 cells."""
    options = {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2, **kwargs}
    return create_task("position", (50, 25), **options)

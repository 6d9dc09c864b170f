"""Unpooled features of timm's odder families: averaged, they are what the network itself pools."""

import pytest
import timm
import torch

from patchit_hf import InputError, build_backbone
from patchit_hf.models.feature_maps import feature_map


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("test_resnet", (64, 32), (2, 1)),
        ("test_vit", (64, 32), (4, 2)),  # tokens, the class token among them
        ("sam2_hiera_tiny", (64, 32), (2, 1)),  # channels last
        ("pit_ti_224", (32, 32), (1, 1)),  # a class token and nothing else
        pytest.param(  # states of every stage
            "efficientvim_m1",
            (64, 64),
            (1, 1),
            marks=pytest.mark.skipif(
                not timm.is_model("efficientvim_m1"), reason="this timm has no EfficientViM"
            ),
        ),
        ("crossvit_tiny_240", (120, 120), (1, 1)),  # two branches of tokens
    ],
)
def test_the_map_is_what_the_network_pools(name, size, grid):
    backbone, _ = build_backbone(name, size)
    inputs = torch.randn(2, 3, *size)
    maps = feature_map(backbone.eval(), inputs)
    assert maps.shape == (2, backbone.num_features, *grid)
    if name != "sam2_hiera_tiny":  # which normalises after it has pooled
        torch.testing.assert_close(maps.mean((2, 3)), backbone(inputs), rtol=1e-4, atol=1e-5)
    maps.square().sum().backward()
    reached = [p.grad is not None for p in backbone.parameters()]
    assert sum(reached) > 0.9 * len(reached)


def test_tokens_lie_in_the_map_as_in_the_picture():
    backbone, _ = build_backbone("test_vit", (64, 32))
    inputs = torch.randn(1, 3, 64, 32)
    tokens = backbone.eval().forward_features(inputs)[:, backbone.num_prefix_tokens :]
    maps = feature_map(backbone, inputs)
    for row in range(4):
        for col in range(2):
            assert torch.equal(maps[0, :, row, col], tokens[0, row * 2 + col])


def test_a_size_that_both_branches_divide_is_named():
    with pytest.raises(InputError, match=r"120 px: set --task-kwargs input_scale=1\.071"):
        build_backbone("crossvit_tiny_240", (112, 112))

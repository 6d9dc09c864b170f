import pytest
import torch

from patchit_hf.common.draws import Draws
from patchit_hf.patch_tasks.transform import PatchTransform

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.fixture
def patches():
    return torch.randint(
        0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def _draws(count=64):
    return Draws(4, torch.arange(count))


def test_normalisation(patches):
    out = PatchTransform(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))(patches, None)
    assert torch.allclose(out[:, 1], (patches[:, 1] / 255 - 0.2) / 0.25, atol=1e-6)


def test_standardisation_takes_brightness_and_contrast_away(patches):
    transform = PatchTransform(standardize=True)
    darker = (patches.float() * 0.5 + 20).to(torch.uint8)
    out = transform(patches, None)
    assert out.mean((-2, -1)).abs().max() < 1e-5
    assert (out.std((-2, -1)) - 1).abs().max() < 0.05
    assert (transform(darker, None) - out).abs().mean() < 0.05


def test_standardisation_of_a_flat_patch_is_finite():
    out = PatchTransform(standardize=True)(torch.full((1, 3, 8, 8), 7, dtype=torch.uint8), None)
    assert torch.equal(out, torch.zeros(1, 3, 8, 8))


def test_channel_drop_zeroes_just_one_channel(patches):
    out = PatchTransform(channel_drop=1.0, **PLAIN)(patches, _draws())
    dropped = (out == 0).flatten(2).all(2)
    assert torch.equal(dropped.sum(1), torch.ones(64).long())
    assert set(dropped.long().argmax(1).tolist()) == {0, 1, 2}


def test_grayscale(patches):
    out = PatchTransform(grayscale=1.0, **PLAIN)(patches, _draws())
    luma = (patches / 255 * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    assert torch.allclose(out, luma[:, None].expand_as(out), atol=1e-6)


def test_chroma_blur_keeps_brightness_and_flattens_colour():
    rng = torch.Generator().manual_seed(0)
    patches = torch.randint(90, 166, (32, 3, 32, 32), dtype=torch.uint8, generator=rng)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    plain = patches / 255
    out = PatchTransform(chroma_blur=1.0, **PLAIN)(patches, _draws(32))
    assert torch.allclose((out * weights).sum(1), (plain * weights).sum(1), atol=1e-4)
    assert (out - out.mean(1, keepdim=True)).std() < 0.4 * (
        plain - plain.mean(1, keepdim=True)
    ).std()


def test_resample_blurs_to_different_degrees(patches):
    out = PatchTransform(resample=1.0, **PLAIN)(patches, _draws())
    sharpness = (out[..., 1:] - out[..., :-1]).abs().mean((1, 2, 3))
    original = (patches[..., 1:].float() - patches[..., :-1].float()).abs().mean((1, 2, 3)) / 255
    assert (sharpness < 0.8 * original).all()
    assert sharpness.max() > 2 * sharpness.min()
    assert (out.mean((1, 2, 3)) - patches.float().mean((1, 2, 3)) / 255).abs().max() < 0.03


@pytest.mark.parametrize("name", ["channel_drop", "grayscale", "chroma_blur", "resample"])
def test_options_hit_their_share_and_leave_the_rest_alone(name, patches):
    many = patches.repeat(20, 1, 1, 1)
    out = PatchTransform(**{name: 0.3}, **PLAIN)(many, _draws(len(many)))
    changed = (out != many.float() / 255).flatten(1).any(1)
    assert 0.25 < changed.float().mean() < 0.35
    plain = PatchTransform(**{name: 0.3}, **PLAIN)(many, None)
    assert torch.equal(plain, many.float() / 255)


def test_input_scale(patches):
    assert PatchTransform(input_scale=2)(patches, None).shape == (64, 3, 64, 64)
    assert PatchTransform(input_scale=1.5)(patches, None).shape == (64, 3, 48, 48)


def test_several_patches_a_sample(patches):
    stacked = patches.view(16, 4, 3, 32, 32)
    out = PatchTransform(grayscale=0.5, **PLAIN)(stacked, _draws(16))
    assert out.shape == (16, 4, 3, 32, 32)
    gray = (out[:, :, 0] == out[:, :, 1]).flatten(2).all(2)
    assert 0 < gray.sum() < 64
    assert gray.any(1).sum() > gray.all(1).sum()  # chosen patch by patch

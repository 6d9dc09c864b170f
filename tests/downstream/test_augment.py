"""Views: what the input shows, and where points of the canvas end up."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.downstream.augment import Augmentation, Geometry, View, centre, vary

STILL = Augmentation(mirror=0, zoom=0, shift=0, rotate=0, jitter=0, erase=0)


def _spots(canvas, places):
    """Black crops with one white 3x3 spot each, around the pixel at the place."""
    crops = torch.zeros(len(places), 3, *canvas, dtype=torch.uint8)
    for i, (y, x) in enumerate(places):
        crops[i, :, y - 1 : y + 2, x - 1 : x + 2] = 255
    return crops, torch.tensor([[[x + 0.5, y + 0.5]] for y, x in places])


def _weight(x):
    """The centre of what is bright, in pixels, per picture."""
    light = x.mean(1)
    rows = torch.arange(light.shape[1]) + 0.5
    cols = torch.arange(light.shape[2]) + 0.5
    total = light.sum((1, 2))
    return torch.stack(
        [(light.sum(1) * cols).sum(1) / total, (light.sum(2) * rows).sum(1) / total], 1
    )


def test_the_centre_is_cut_as_timm_cuts_it():
    crops = torch.randint(0, 256, (2, 3, 200, 100), dtype=torch.uint8)
    x, view = centre(crops, Geometry.of((192, 96)))
    assert torch.equal(x, crops[:, :, 4:196, 2:98].float() / 255)
    assert not view.flipped.any()
    assert torch.allclose(view.to_input(torch.tensor([[[2.0, 4.0]]] * 2)), torch.zeros(2, 1, 2))


def test_nothing_varied_is_the_centre():
    crops = torch.randint(0, 256, (3, 3, 50, 25), dtype=torch.uint8)
    geometry = Geometry((50, 25), (48, 23), (48, 23))
    still, _ = centre(crops, geometry)
    varied, _ = vary(crops, geometry, STILL, Draws(0, torch.arange(3)))
    assert torch.allclose(still, varied, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"mirror": 1.0},
        {"zoom": 0.3},
        {"shift": 0.1},
        {"rotate": 40.0},
        {"mirror": 0.5, "zoom": 0.2, "shift": 0.05, "rotate": 30.0},
    ],
)
def test_points_go_where_the_picture_goes(change):
    places = [(60, 30), (40, 25), (50, 20), (70, 28)]
    crops, points = _spots((100, 50), places)
    geometry = Geometry((100, 50), (96, 48), (96, 48))
    options = dataclasses.replace(STILL, **change)
    x, view = vary(crops, geometry, options, Draws(3, torch.arange(4)))
    assert torch.allclose(view.to_input(points)[:, 0], _weight(x), atol=0.35)
    assert torch.allclose(view.to_canvas(view.to_input(points)), points, atol=1e-3)


def test_a_mirrored_crop_is_the_mirror_image():
    crops = torch.randint(0, 256, (2, 3, 50, 26), dtype=torch.uint8)
    geometry = Geometry((50, 26), (48, 24), (48, 24))
    x, view = vary(crops, geometry, dataclasses.replace(STILL, mirror=1), Draws(0, torch.arange(2)))
    assert view.flipped.all()
    assert torch.allclose(x, centre(crops, geometry)[0].flip(3), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 0.5), st.floats(0, 0.5))
def test_without_turning_nothing_comes_from_outside(seed, zoom, shift):
    crops = torch.full((8, 3, 50, 26), 200, dtype=torch.uint8)
    options = dataclasses.replace(STILL, zoom=zoom, shift=shift, mirror=0.5)
    geometry = Geometry((50, 26), (48, 24), (48, 24))
    _, view = vary(crops, geometry, options, Draws(seed, torch.arange(8)))
    corners = torch.tensor([[0.0, 0.0], [24.0, 0.0], [0.0, 48.0], [24.0, 48.0]]).expand(8, 4, 2)
    places = view.to_canvas(corners)
    assert (places >= -1e-3).all()
    assert (places <= torch.tensor([26.0, 50.0]) + 1e-3).all()


def test_a_sample_is_varied_alike_in_any_batch():
    crops = torch.randint(0, 256, (4, 3, 50, 25), dtype=torch.uint8)
    geometry = Geometry((50, 25), (48, 24), (32, 16))
    options = Augmentation(mirror=0.5, zoom=0.2, shift=0.1, rotate=20, jitter=0.3)
    together, _ = vary(crops, geometry, options, Draws(1, torch.arange(10, 14)))
    alone, _ = vary(crops[2:3], geometry, options, Draws(1, torch.tensor([12])))
    assert torch.allclose(together[2:3], alone, atol=1e-6)
    assert together.shape == (4, 3, 32, 16)


def test_erasing_fills_one_rectangle_with_the_mean():
    crops = torch.randint(0, 256, (64, 3, 48, 24), dtype=torch.uint8)
    geometry = Geometry((48, 24), (48, 24), (48, 24))
    still, _ = centre(crops, geometry)
    options = dataclasses.replace(STILL, erase=1.0)
    x, _ = vary(crops, geometry, options, Draws(0, torch.arange(64)))
    changed = ((x - still).abs() > 1e-3).any(1)
    share = changed.flatten(1).float().mean(1)
    assert share.min() > 0.03
    assert share.max() < 0.3
    for i in range(64):
        rows, cols = changed[i].any(1).nonzero()[:, 0], changed[i].any(0).nonzero()[:, 0]
        box = changed[i, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        assert box.float().mean() > 0.9


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mirror": 2}, "mirror=2"), ({"zoom": 1}, "zoom"), ({"rotate": -1}, "rot")],
)
def test_bad_options_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        Augmentation(**change)


def test_a_view_and_its_inverse():
    view = View(torch.zeros(1, dtype=torch.bool), torch.tensor([[[2.0, 0, 3], [0, 4.0, 5]]]))
    assert view.to_canvas(torch.tensor([[[1.0, 1.0]]])).tolist() == [[[5.0, 9.0]]]
    assert view.to_input(torch.tensor([[[5.0, 9.0]]])).tolist() == [[[1.0, 1.0]]]

"""No pixel of any patch of any task comes from outside the frame, whatever the options."""

import io

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from patchit_hf.common.draws import Draws
from patchit_hf.common.errors import InputError
from patchit_hf.crops.cutting.options import CropOptions
from patchit_hf.crops.detections import read_detections
from patchit_hf.crops.make import make_crops
from patchit_hf.data.canvas import load_canvas
from patchit_hf.patch_tasks import create_task
from tests.patch_tasks.conftest import OPTIONS, PLAIN

FLAT = 200  # value of the third channel inside
COUNT = 12  # crops a batch
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def canvases(draw):
    """Height and width; coordinates plus one are numbers of eight bits that are never zero."""
    return draw(st.integers(16, 250)), draw(st.integers(16, 250))


def sizes(draw, canvas, most=8):
    """Rows, columns, patch size, jitter and margin, some of which do not fit."""
    size = draw(st.integers(4, min(canvas)))
    return {
        "rows": draw(st.integers(1, min(most, max(1, canvas[0] // size)))),
        "cols": draw(st.integers(1, min(most, max(1, canvas[1] // size)))),
        "patch_size": size,
        "jitter": draw(st.integers(0, 40)),
        "margin": draw(st.sampled_from([0, 0, 1, 5])),
    }


def options_of(draw, name, canvas):
    """Options of a task."""
    if name == "context":
        size = draw(st.integers(4, max(4, min(canvas) // 3)))
        return {
            "patch_size": size,
            "gap": draw(st.integers(0, 10)),
            "jitter": draw(st.integers(0, 6)),
        }
    if name == "scale":
        side = st.integers(max(4, min(canvas) // 6), min(canvas))  # else there are thousands
        return {
            "sizes": draw(st.lists(side, min_size=1, max_size=4, unique=True)),
            "patch_size": draw(st.integers(4, 4 + min(canvas) // 3)),
            "jitter": draw(st.integers(0, 40)),
        }
    if name == "octaves":
        cells = st.lists(st.integers(1, 6), min_size=2, max_size=2)
        return {
            **PLAIN,
            "details": draw(st.integers(0, 3)),
            "parts": draw(st.integers(1, 3)),
            "detail_cells": draw(cells),
            "part_cells": draw(cells),
            "window": draw(st.integers(8, 100)),
            "jitter": draw(st.integers(0, 40)),
            "identity_weight": draw(st.sampled_from([0, 1])),
        }
    options = sizes(draw, canvas, most=4 if name == "jigsaw" else 8)
    if name == "people":
        options["patches_per_crop"] = draw(st.integers(2, 6))
    if name == "jigsaw":
        options |= {"permutations": draw(st.integers(2, 6)), "standardize": False}
    return options


def task_of(draw, name, **more):
    """A task with random options on a random canvas, in 0 to 1 instead of normalised."""
    canvas = draw(canvases())
    try:
        task = create_task(name, canvas, **{**options_of(draw, name, canvas), **more})
    except InputError:
        assume(False)
    task = task.with_statistics((0.0,) * 3, (1.0,) * 3)
    return task


def coded(height, width):
    """Crops whose first two channels are y + 1 and x + 1, and whose third is flat."""
    y, x = np.mgrid[1 : height + 1, 1 : width + 1]
    crop = np.stack([y, x, np.full_like(y, FLAT)]).astype(np.uint8)
    return torch.from_numpy(crop).expand(COUNT, -1, -1, -1)


def patches_of(task, batch):
    """All patches of a batch in numbers of eight bits, ``[N, 3, S, S]``."""
    return task.examples(batch).flatten(0, 1) * 255


def asked(task, crops, seed, whole):
    """What is asked in training, or in an evaluation."""
    draws = Draws(seed, torch.arange(len(crops)))
    return task.sample_all(crops, draws) if whole else task.sample(crops, draws)


@pytest.mark.parametrize("name", sorted(OPTIONS))
@given(data=st.data())
@QUICK
def test_patches_are_whole_pieces_of_the_crop(name, data):
    """A patch shows neighbouring rows and columns in their order: nothing padded, or wrapped."""
    task = task_of(data.draw, name)
    height, width = task.canvas
    batch = asked(
        task, coded(height, width), data.draw(st.integers(0, 9)), data.draw(st.booleans())
    )
    patches = patches_of(task, batch)
    assert (patches[:, 2] - FLAT).abs().max() < 0.01
    for channel, limit, axis in ((0, height, 1), (1, width, 2)):
        values = patches[:, channel]
        assert values.min() > 0.99
        assert values.max() < limit + 0.01
        steps = values.diff(dim=axis)
        if name == "scale":  # resized and rounded: as many rows a step as it was shrunk by
            assert values.diff(dim=3 - axis).abs().max() < 1.01
            assert steps.min() > -1.01
            assert steps.max() <= max(task.sizes) / task.grid.patch_size + 1.01
        elif name == "octaves":  # resized and not rounded
            across = values.diff(dim=3 - axis)  # a side may be a single pixel
            assert across.numel() == 0 or across.abs().max() < 0.01
            if steps.numel() == 0:
                continue
            assert steps.min() > -0.01
            most = max(octave.lattice.size[axis - 1] for octave in task.octaves)
            assert steps.max() < 1.25 * most / task.input_size[axis - 1] + 0.01  # as weighted
        else:
            assert values.diff(dim=3 - axis).abs().max() < 0.01
            assert (steps - 1).abs().max() < 0.01


@pytest.mark.parametrize("name", sorted(OPTIONS))
@given(data=st.data())
@QUICK
def test_no_option_brings_in_what_the_crop_has_not(name, data):
    """Of a crop of one colour, blurred, shrunk, grey or enlarged, every pixel is that colour."""
    share = st.sampled_from([0.0, 0.5, 1.0])
    options = {key: data.draw(share) for key in ("resample", "chroma_blur", "grayscale")}
    scale = data.draw(st.sampled_from([1, 1.5, 2]))
    task = task_of(data.draw, name, **options, input_scale=scale)
    colour = torch.tensor([210, 120, 60], dtype=torch.uint8).view(3, 1, 1)
    crops = colour.expand(COUNT, 3, *task.canvas)
    inputs = asked(task, crops, data.draw(st.integers(0, 9)), False).inputs.flatten(0, -4) * 255
    grey = 0.299 * 210 + 0.587 * 120 + 0.114 * 60
    for channel, value in enumerate((210, 120, 60)):
        off = torch.minimum((inputs[:, channel] - value).abs(), (inputs[:, channel] - grey).abs())
        assert off.max() < 0.1


# From a box at the edge of a frame to the patches.

WIDTH, HEIGHT, BLUE = 200, 150, 128
edge = st.floats(-40, 40)


def scene():
    """A frame whose red is x + 1, whose green is y + 1, and whose blue is flat."""
    y, x = np.mgrid[1 : HEIGHT + 1, 1 : WIDTH + 1]
    return Image.fromarray(np.stack([x, y, np.full_like(x, BLUE)], -1).astype(np.uint8))


@st.composite
def boxes_at_the_edge(draw):
    """Boxes that touch, cross or lie near a side or a corner of the frame, xyxy."""
    height = draw(st.floats(20, 170))
    width = height * draw(st.floats(0.2, 1))
    x = draw(st.sampled_from([0.0, WIDTH - width, (WIDTH - width) / 2])) + draw(edge)
    y = draw(st.sampled_from([0.0, HEIGHT - height, (HEIGHT - height) / 2])) + draw(edge)
    return [round(value, 2) for value in (x, y, x + width, y + height)]


@pytest.mark.e2e
@given(
    st.lists(boxes_at_the_edge(), min_size=12, max_size=12, unique_by=tuple),
    st.sampled_from(["shift", "shrink"]),
    st.sampled_from([0.0, 0.1, 0.4]),
)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
def test_patches_of_boxes_at_the_edge_show_the_frame(tmp_path_factory, boxes, outside, context):
    folder = tmp_path_factory.mktemp("scene")
    (folder / "images").mkdir()
    scene().save(folder / "images/a.png")
    lines = [f"a.png {' '.join(map(str, box))}\n" for box in boxes]
    (folder / "b.txt").write_text("".join(lines))
    options = CropOptions(
        image_format="png", outside=outside, context=context, min_visible=0.3, min_height=20.0,
        canvas="100x50",
    )  # fmt: skip
    found = read_detections(folder / "b.txt")
    try:
        report = make_crops(found, folder / "images", folder / "out", options)
    except InputError:  # no crop is left
        assume(False)
    assert report["boxes"]["kept"] > 0
    rows = pyarrow.parquet.read_table(folder / "out/data").to_pylist()
    crops = np.stack([load_canvas(row["image"], (100, 50), "squash", "-") for row in rows])
    crops = torch.from_numpy(crops).permute(0, 3, 1, 2)
    for name in sorted(OPTIONS):
        task = create_task(name, (100, 50), **{**OPTIONS[name], "jitter": 2})
        task = task.with_statistics((0.0,) * 3, (1.0,) * 3)
        patches = patches_of(task, asked(task, crops, 0, True))
        assert (patches[:, 2] - BLUE).abs().max() < 1.01
        assert patches[:, 0].min() > 0.4
        assert patches[:, 0].max() < WIDTH + 0.6
        assert patches[:, 1].min() > 0.4
        assert patches[:, 1].max() < HEIGHT + 0.6


def test_the_check_sees_padding():
    """One column of padding in a crop is found: the figures above are not too wide."""
    crops = coded(60, 30).clone()
    crops[:, :, :, :1] = 0
    task = create_task("position", (60, 30), rows=2, cols=1, patch_size=30, jitter=0)
    task = task.with_statistics((0.0,) * 3, (1.0,) * 3)
    patches = patches_of(task, asked(task, crops, 0, True))
    assert (patches[:, 2] - FLAT).abs().max() > 100
    buffer = io.BytesIO()
    Image.fromarray(crops[0].permute(1, 2, 0).numpy()).save(buffer, "PNG")
    canvas = load_canvas({"bytes": buffer.getvalue()}, (60, 30), "squash", "-")
    assert (canvas[:, 0] == 0).all()

import io
import math
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from patchit_hf import create_task, list_tasks
from patchit_hf.common.draws import Draws
from patchit_hf.figures import (
    SHOWS_PEOPLE,
    accuracy_on_body,
    as_image,
    as_png,
    confusion_on_body,
    draw_figures,
    first_layer_filters,
    labelled_patches,
    learning_curve,
    localisation,
    mean_crop,
    write_figures,
)
from patchit_hf.figures.answered import reassemble, tiles
from patchit_hf.figures.asked import in_order, questions
from patchit_hf.figures.cells import coverage, layers, rows
from patchit_hf.figures.curve import spread
from patchit_hf.figures.filters import filters, scaled
from patchit_hf.figures.page import HEADER, HEAT, MARGIN, WIDTH, Page, style
from patchit_hf.models.build import build_model
from patchit_hf.patch_tasks.position import PRESETS

SMALL = {
    "pair": {"rows": 3, "cols": 2, "patch_size": 8},
    "context": {"patch_size": 6, "gap": 1, "jitter": 1},
    "scale": {"sizes": [8, 12, 24], "patch_size": 8},
    "jigsaw": {"rows": 3, "cols": 2, "patch_size": 8, "permutations": 5},
    "octaves": {"detail_cells": [3, 2], "part_cells": [2, 2], "jitter": 2},
}
GRID = torch.tensor([[0, 0, 50, 50], [50, 0, 100, 50], [0, 50, 50, 100], [50, 50, 100, 100]])
ENTRIES = [
    {"samples": 1000, "train_accuracy": 0.1, "train_loss": 2.5, "eval_accuracy": 0.2},
    {"samples": 3000, "train_accuracy": 0.4, "train_loss": 1.5, "eval_accuracy": 0.3},
]


def _task(name, **options):
    default = {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2}
    return create_task(name, (50, 25), **{**SMALL.get(name, default), **options})


def _crops(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 50, 25), generator=generator, dtype=torch.uint8)


def _texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def _text(figure, content, nth=0):
    return [t for t in figure.axes[0].texts if t.get_text() == content][nth]


def test_the_mean_crop_is_the_mean():
    crops = _crops(300)
    wanted = crops.numpy().astype(np.float64).mean(0).transpose(1, 2, 0) / 255
    assert np.allclose(mean_crop(crops).numpy(), wanted, atol=1e-6)


def test_boxes_fall_into_layers_of_one_size():
    boxes = create_task("scale").boxes.numpy()
    found = layers(boxes)
    assert [len(layer) for layer in found] == [18, 8, 2]
    assert np.concatenate(found).tolist() == list(range(28))
    assert [row.tolist() for row in rows(boxes, found[1])] == [
        [18, 19],
        [20, 21],
        [22, 23],
        [24, 25],
    ]
    assert len(layers(create_task("position").boxes.numpy())) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 20)] * 2, st.sampled_from([4, 7])), max_size=12))
def test_boxes_of_a_layer_never_overlap(corners):
    boxes = np.array([(x, y, x + s, y + s) for x, y, s in corners]).reshape(-1, 4)
    found = layers(boxes)
    assert sorted(n for layer in found for n in layer) == list(range(len(boxes)))
    for layer in found:
        pixels = np.zeros((30, 30), int)
        for x0, y0, x1, y1 in boxes[layer]:
            pixels[y0:y1, x0:x1] += 1
        assert pixels.max() <= 1


def test_shares_of_overlapping_boxes_add_up():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3]])
    got = coverage(boxes, np.array([0.5, 0.25]), (3, 4))
    assert got.tolist() == [[0.5, 0.5, 0, 0], [0.5, 0.75, 0.25, 0], [0, 0.25, 0.25, 0]]


def test_heat_is_evenly_darker_in_grey():
    rgb = HEAT(np.linspace(0, 1, 11))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    steps = -np.diff(lightness)
    assert steps.min() > 6.5
    assert steps.max() < 11


def test_the_confusion_of_a_paper_fits_a_page_and_keeps_its_numbers():
    boxes = torch.tensor([[x, y, x + 32, y + 32] for y in range(0, 192, 33) for x in (0, 34, 68)])
    with style("paper"):
        figure = confusion_on_body(torch.eye(18, dtype=torch.int64), boxes, torch.ones(200, 100, 3))
    width, height = figure.get_size_inches()
    assert height / width < 2.4  # 8 inches, 3.35 of them wide
    assert _texts(figure).count("100") == 18


def test_the_confusion_has_each_share_as_heat_and_number():
    confusion = torch.tensor([[60, 0, 36, 4], [0, 10, 0, 0], [0, 0, 10, 0], [0, 0, 0, 0]])
    figure = confusion_on_body(confusion, GRID, torch.full((100, 100, 3), 0.4))
    numbers = [t for t in _texts(figure) if t not in ("0", "1", "2", "3", "mean")]
    assert numbers[2:8] == ["share of the cell's patches", "0%", "25%", "50%", "75%", "100%"]
    assert numbers[8:] == ["60", "36", "100", "100"]  # 4 % is too little, of cell 3 is nothing
    image = as_image(figure) / 255
    for share, text in ((0.6, "60"), (0.36, "36"), (1.0, "100")):
        x, y = (round(v) for v in _text(figure, text).get_position())
        pixel = image[y + HEADER - 35, x - 35]
        assert pixel == pytest.approx(np.array(HEAT(share**0.5)[:3]), abs=0.01)


def test_the_mean_crop_stands_beside_the_confusion_and_not_under_its_colours():
    mean = torch.zeros(100, 100, 3)
    mean[:, 50:] = 1.0
    figure = confusion_on_body(torch.eye(4, dtype=torch.int64), GRID, mean)
    image = as_image(figure) / 255
    x, y = (round(v) for v in _text(figure, "100").get_position())  # of the top left cell
    below, right = image[y + HEADER + 100, x - 35], image[y + HEADER + 100, x + 100]
    assert below == pytest.approx([1.0] * 3, abs=0.01)
    assert right == pytest.approx([1.0] * 3, abs=0.01)
    x, y = (round(v) for v in _text(figure, "mean").get_position())
    assert image[y + HEADER + 40, x - 20] == pytest.approx([0.0] * 3, abs=0.01)
    assert image[y + HEADER + 40, x + 20] == pytest.approx([1.0] * 3, abs=0.01)


def test_the_accuracy_has_a_number_in_every_cell():
    confusion = torch.tensor([[6, 2, 2, 0], [1, 8, 0, 1], [0, 0, 9, 1], [0, 5, 0, 5]])
    figure = accuracy_on_body(confusion, GRID, torch.full((100, 100, 3), 0.4))
    texts = _texts(figure)
    assert "Right cell 70%, right row 80%, right column 90%" in texts[1]
    assert "40 held-out patches" in texts[1]
    numbers = [t for t in texts if t.isdigit()]
    assert numbers == ["60", "80", "90", "50", *["86", "53", "82", "71"]]  # recall, precision
    x, y = (round(v) for v in _text(figure, "90").get_position())
    pixel = as_image(figure)[y + HEADER - 40, x - 40] / 255
    assert pixel == pytest.approx(np.array(HEAT(0.9)[:3]), abs=0.01)


def test_cells_of_several_sizes_get_a_body_each():
    task = create_task("scale")
    figure = accuracy_on_body(torch.eye(28, dtype=torch.int64), task.boxes, torch.rand(200, 100, 3))
    assert [t for t in _texts(figure) if "cells of" in t] == [
        f"cells of {s}x{s} px:\n% put back here" for s in (32, 48, 96)
    ]
    assert _texts(figure).count("100") == 28
    confused = confusion_on_body(
        torch.eye(28, dtype=torch.int64), task.boxes, torch.rand(200, 100, 3)
    )
    assert {str(n) for n in range(28)} <= set(_texts(confused))
    assert "Overlapping cells add up" in _texts(confused)[1]


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (12, 6)])
def test_any_grid_fits_on_the_page(size):
    task = create_task("position", (200, 100), rows=size[0], cols=size[1], patch_size=11, jitter=0)
    confusion = torch.eye(task.num_classes, dtype=torch.int64)
    figure = confusion_on_body(confusion, task.boxes, torch.rand(200, 100, 3))
    height, width = as_image(figure).shape[:2]
    assert width == WIDTH
    assert height < 1500
    inside = [t.get_position() for t in figure.axes[0].texts if t.get_text().isdigit()]
    assert all(MARGIN < x < WIDTH - MARGIN and y < height - HEADER for x, y in inside)


def test_the_learning_curve_shows_what_was_measured():
    figure = learning_curve(ENTRIES, 0.05, {"mean colour": 0.06, "edges": 0.15})
    upper, lower = figure.axes[1:]
    lines = {line.get_label(): line for line in upper.lines}
    assert list(lines["held-out crops"].get_ydata()) == [0.2, 0.3]
    assert list(lines["held-out crops"].get_xdata()) == [1.0, 3.0]  # thousands
    assert list(lines["training"].get_ydata()) == [0.1, 0.4]
    assert list(lines["training"].get_xdata()) == [0.5, 2.0]  # in the middle of what it is of
    assert {name: lines[name].get_ydata()[0] for name in ("chance", "mean colour", "edges")} == {
        "chance": 0.05,
        "mean colour": 0.06,
        "edges": 0.15,
    }
    assert (
        len({str(line.get_linestyle()) + str(line._unscaled_dash_pattern) for line in upper.lines})
        == 5
    )
    names = {t.get_text(): t.xyann[1] for t in upper.texts}
    assert list(names) == [
        "chance 5.0%",
        "mean colour 6.0%",
        "edges 15.0%",
        "held-out crops 30.0%",
        "training 40.0%",
    ]
    gaps = np.diff(list(names.values())) * 340
    assert gaps.min() > 16.9  # pixels: no name on another
    assert upper.get_ylim() == pytest.approx((0, 0.432))
    assert [line.get_label() for line in lower.lines] == ["training"]
    assert lower.get_xlabel() == "samples seen, thousands"


def test_one_point_is_a_curve_and_none_is_not():
    figure = learning_curve([{"samples": 40, "train_accuracy": 1.0, "train_loss": 0.1}], 0.5)
    assert figure.axes[1].lines[0].get_marker() == "o"
    assert figure.axes[1].get_ylim() == (0, 1)
    assert learning_curve([], 0.5) is None


@pytest.mark.parametrize("style_name", ["report", "paper"])
def test_the_names_of_the_axes_are_on_the_page_and_beside_the_numbers(style_name):
    flat = [
        {"samples": 8 * n, "train_accuracy": 0.06, "train_loss": 2.8903 + n / 2000} for n in (1, 2)
    ]
    with style(style_name):
        figure = learning_curve(flat, 0.05)
    figure.canvas.draw()
    for axes in figure.axes[1:]:
        name = axes.yaxis.label.get_window_extent()
        numbers = [label.get_window_extent().x0 for label in axes.get_yticklabels()]
        assert 0 <= name.x0
        assert name.x1 <= min(numbers)


def test_what_is_not_finite_is_left_out():
    broken = {"samples": 5000, "train_accuracy": 0.1, "train_loss": math.nan, "eval_loss": math.inf}
    figure = learning_curve([*ENTRIES, broken], 0.05)
    [line] = figure.axes[2].lines
    assert list(line.get_ydata()) == [2.5, 1.5]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-20, 220), max_size=9))
def test_names_are_spread_as_little_as_needed(places):
    places = sorted(places)
    got = spread(places, 17, 200)
    assert len(got) == len(places)
    assert all(b - a >= 17 - 1e-6 for a, b in pairwise(got))
    assert all(-1e-6 <= y <= 200 + 1e-6 for y in got)
    inside = all(0 <= p <= 200 for p in places)
    if inside and all(b - a >= 17 for a, b in pairwise(places)):
        assert got == places


def test_filters_are_those_of_the_first_layer_strongest_first():
    net = nn.Sequential(nn.Conv2d(3, 3, 7, stride=2), nn.Conv2d(3, 8, 3))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].weight[1, 0] = 1.0  # red
        net[0].weight[2, 2, 0, 0] = -0.5  # one pixel against blue
    figure = first_layer_filters(net)
    assert _texts(figure)[0] == "The 3 filters of the first layer"
    assert "7x7 px" in _texts(figure)[1]
    image = as_image(figure)
    side = 49  # seven pixels a weight, ten between filters
    first, second, third = (MARGIN + n * (side + 10) for n in range(3))
    assert image[HEADER + 20, first + 20].tolist() == [255, 128, 128]
    assert image[HEADER + 3, second + 3].tolist() == [128, 128, 0]
    assert image[HEADER + 20, second + 20].tolist() == [128, 128, 128]
    assert image[HEADER + 20, third + 20].tolist() == [128, 128, 128]
    assert image[HEADER + 20, third + side + 5].tolist() == [255, 255, 255]


def test_only_large_overlapping_first_layers_are_drawn():
    weights = filters(timm.create_model("resnet18"))
    assert weights.shape == (64, 7, 7, 3)
    assert scaled(weights[0]).min() == 0 or scaled(weights[0]).max() == 1
    for name in ("resnet10t", "test_vit", "test_convnext"):
        assert first_layer_filters(timm.create_model(name)) is None, name
    assert first_layer_filters(nn.Linear(3, 3)) is None


def test_patches_are_shown_as_the_network_sees_them():
    task, crops = _task("position", jitter=0), _crops(3)
    task = task.with_statistics((0.3, 0.4, 0.5), (0.2, 0.25, 0.3))
    asked = questions(task, task.sample_all(crops, Draws(0, torch.arange(3))), 3)
    assert asked.pictures.shape == (3, 6, 1, 8, 8, 3)
    assert asked.answers.tolist() == [list(range(6))] * 3
    for cell, (x0, y0, x1, y1) in enumerate(task.boxes.tolist()):
        wanted = crops[1, :, y0:y1, x0:x1].permute(1, 2, 0) / 255
        assert np.allclose(asked.pictures[1, cell, 0], wanted, atol=1e-6)


def test_questions_are_sorted_with_their_pictures():
    task, crops = _task("shuffle"), _crops(2)
    asked = questions(task, task.sample_all(crops, Draws(0, torch.arange(2))), 2)
    ordered = in_order(asked)
    assert asked.answers.tolist() != ordered.answers.tolist() == [list(range(6))] * 2
    place = asked.answers[1].tolist().index(4)
    assert np.array_equal(ordered.pictures[1, 4], asked.pictures[1, place])


@pytest.mark.parametrize("name", sorted(set(list_tasks()) - set(PRESETS)))
def test_every_task_shows_its_questions_and_answers(name):
    task, crops = _task(name), _crops(12)
    draws = Draws(0, torch.arange(12))
    figure = labelled_patches(task, crops, draws, name=lambda answer: f"answer {answer}")
    written = [t for t in _texts(figure) if t.startswith("answer ")]
    truth = task.truth(task.sample_all(crops[:2], Draws(0, torch.arange(2))).targets).view(2, -1)
    wanted = [f"answer {a}" for crop in truth.tolist() for a in sorted(crop)]
    assert written[: len(wanted)] == wanted
    assert 4 <= len(written) - len(wanted) <= 12  # and examples of training
    assert name in _texts(figure)[0]
    inside = [t.get_position() for t in figure.axes[0].texts]
    height = as_image(figure).shape[0]
    assert all(0 < x < WIDTH and -HEADER < y < height - HEADER for x, y in inside)


def test_random_options_are_named():
    crops, draws = _crops(4), Draws(0, torch.arange(4))
    figure = labelled_patches(_task("position", channel_drop=0.5, input_scale=2), crops, draws)
    assert "In training, with channel_drop 0.5:" in _texts(figure)


def test_a_box_is_shared_by_the_patches_that_meet_in_it():
    box = np.array([10, 20, 30, 40])
    assert tiles(box, 1).tolist() == [[10, 20, 30, 40]]
    assert tiles(box, 3).tolist() == [[10, 20, 20, 30], [20, 20, 30, 30], [10, 30, 20, 40]]
    assert tiles(box, 0).shape == (0, 4)


def test_patches_lie_where_the_network_puts_them():
    red, green, blue = np.eye(3)
    pictures = np.stack([np.broadcast_to(c, (4, 4, 3)) for c in (red, green, blue, red)])
    cells = GRID.numpy()
    panel = Page(100, "").picture(np.ones((1, 1, 3)), 0, 0, 100, (100, 100))
    answered, true = np.array([0, 2, 2, 1]), np.array([0, 1, 2, 3])
    reassemble(panel, pictures, answered, true, cells, np.arange(4))
    paper = panel.page.part(0, 0, 100, 100)
    assert paper[25, 25].tolist() == red.tolist()  # alone and right
    assert paper[2, 25].tolist() == red.tolist()  # no frame but the cell's own
    assert paper[62, 12].tolist() == green.tolist()  # two share a cell, side by side
    assert paper[62, 37].tolist() == blue.tolist()
    assert paper[90, 25].tolist() == [1, 1, 1]
    assert paper[51, 12].max() < 0.2  # a frame: the green one is wrong
    assert paper[51, 37].tolist() == blue.tolist()
    assert paper[1, 75].max() < 0.2  # alone and wrong
    hatched = paper[52:98, 52:98].reshape(-1, 3)
    assert 0.05 < (hatched < 1).any(1).mean() < 0.15  # nobody is put here


def test_of_many_patches_in_a_cell_the_rest_is_counted():
    pictures, cells = np.zeros((12, 4, 4, 3)), GRID.numpy()
    page = Page(100, "")
    panel = page.picture(np.ones((1, 1, 3)), 0, 0, 100, (100, 100))
    reassemble(panel, pictures, np.zeros(12, int), np.zeros(12, int), cells, np.arange(4))
    assert [t.get_text() for t in page.sheet.texts][-1] == "+4"


def test_localisation_counts_what_is_right():
    task, crops = _task("position"), _crops(8)
    batch = task.sample_all(crops, Draws(0, torch.arange(8)))
    true = task.truth(batch.targets).view(8, 6)
    answered = true.clone()
    answered[1, :2] = 5
    pictures = task.transform.colours(task.examples(batch)[:, 0]).unflatten(0, (8, 6))
    figure = localisation(crops, pictures, answered, true, task.boxes)
    assert _texts(figure)[2:] == ["6 of 6 right", "4 of 6 right", *["6 of 6 right"] * 4]


@pytest.mark.parametrize("name", ["position", "scale", "shuffle", "pair"])
def test_a_run_gets_the_figures_that_apply(name):
    task, crops = _task(name), _crops(20)
    model = build_model("test_resnet", task, 0)
    confusion = torch.eye(task.num_classes, dtype=torch.int64)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    figures = draw_figures(task, model, crops, confusion=confusion, entries=ENTRIES)
    places = ["confusion", "accuracy", "localisation"] if name != "pair" else []
    assert list(figures) == ["patches", *places, "learning_curve"]
    assert set(SHOWS_PEOPLE) & set(figures) == {"patches", "localisation"} & set(figures)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_single_crops_are_asked_what_the_evaluation_asks():
    task, crops = _task("position"), _crops(30)
    model = build_model("test_resnet", task, 0).eval()
    figures = draw_figures(task, model, crops, confusion=None, entries=[])
    assert list(figures) == ["patches", "localisation"]
    with torch.inference_mode():
        batch = task.sample_all(crops, Draws(0, torch.arange(30)))
        right = (task.answers(model(batch.inputs)) == task.truth(batch.targets)).view(30, -1)
    rows = [round(29 * i / 11) for i in range(6)]
    wanted = [f"{int(right[row].sum())} of 6 right" for row in rows]
    assert _texts(figures["localisation"])[2:] == wanted


def test_without_held_out_crops_there_is_the_curve():
    task = _task("position")
    model = build_model("test_resnet", task, 0)
    figures = draw_figures(task, model, None, confusion=None, entries=ENTRIES[:1])
    assert list(figures) == ["learning_curve"]


def test_files_are_small_whole_and_the_same_every_time(tmp_path):
    task = create_task("position")
    crops = torch.arange(200).view(1, 1, 200, 1).expand(12, 3, 200, 100).to(torch.uint8)
    draws = Draws(0, torch.arange(12))
    figures = {
        "patches": labelled_patches(task, crops, draws),
        "curve": learning_curve(ENTRIES, 0.1),
    }
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "curve.png").write_bytes(b"old")
    paths = write_figures(tmp_path / "figures", figures)
    assert paths == [tmp_path / "figures" / "patches.png", tmp_path / "figures" / "curve.png"]
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["curve.png", "patches.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.width == WIDTH
            assert image.info == {}
        assert path.stat().st_size < 100_000
    with Image.open(paths[1]) as image:
        assert np.array_equal(np.asarray(image), as_image(figures["curve"]))
    assert paths[0].read_bytes() == as_png(labelled_patches(task, crops, draws))


def test_what_is_too_large_in_full_colour_gets_a_palette():
    page = Page(300, "noise")
    page.part(0, 0, WIDTH, 300)[:] = np.random.default_rng(0).random((300, WIDTH, 3))
    figure = page.finish()
    with Image.open(io.BytesIO(as_png(figure))) as image:
        assert image.mode == "P"
        off = np.asarray(image.convert("RGB")).astype(int) - as_image(figure)
    assert np.abs(off).mean() < 16


def test_a_users_settings_neither_change_figures_nor_are_changed():
    wanted = as_png(learning_curve(ENTRIES, 0.1))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 50}):
        before = dict(matplotlib.rcParams)
        got = as_png(learning_curve(ENTRIES, 0.1))
        assert dict(matplotlib.rcParams) == before
    assert got == wanted


def test_tensorboard_takes_the_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    picture = as_image(learning_curve(ENTRIES, 0.1))
    assert picture.dtype == np.uint8
    writer = SummaryWriter(tmp_path)
    writer.add_image("figures/learning_curve", picture, 3, dataformats="HWC")
    writer.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    [image] = events.Images("figures/learning_curve")
    assert image.step == 3
    with Image.open(io.BytesIO(image.encoded_image_string)) as shown:
        assert np.array_equal(np.asarray(shown), picture)

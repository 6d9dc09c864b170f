"""The figures of a run are drawn again, for the screen and for a paper."""

import shutil

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from patchit_hf.common.errors import InputError
from patchit_hf.figures import confusion_on_body, embedding_map, neighbours, ranks
from patchit_hf.figures.files import as_image, write_figures
from patchit_hf.figures.map import flat
from patchit_hf.figures.page import HEADER, HEAT, Page, style
from patchit_hf.figures.search import nearest
from patchit_hf.publish.contents import contents_of
from patchit_hf.shell.main import main

CROPS = torch.arange(6, dtype=torch.uint8).mul(40).view(6, 1, 1, 1).expand(6, 3, 20, 10)


def test_nearest_is_that_of_a_naive_loop():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(5, 8)), rng.normal(size=(9, 8))
    without = rng.random((5, 9)) < 0.3
    found = nearest(queries, gallery, 3, without)
    for q in range(5):
        cosine = [
            -2.0 if without[q, g]
            else float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            for g, (a, b) in enumerate((queries[q], row) for row in gallery)
        ]  # fmt: skip
        assert found[q].tolist() == sorted(range(9), key=lambda g: -cosine[g])[:3]


def test_ranks_frame_right_and_wrong_ones_differently():
    found, right = np.array([[1, 2]]), np.array([[True, False]])
    image = as_image(ranks(CROPS[:1], CROPS, found, right))
    row = image[HEADER + 18 + 60]  # through the images
    blue, faint = [68, 119, 180], [168, 168, 168]
    assert (row == blue).all(1).sum() == 12  # six pixels at either side
    assert (row == faint).all(1).sum() == 4  # two
    grey = row[:, 0][(row[:, 0] == row[:, 1]) & (row[:, 0] % 40 == 0)]
    assert {0, 40, 80} <= set(grey.tolist())


def test_neighbours_have_a_row_for_each_backbone():
    figure = neighbours(
        CROPS, [0, 3], {"before": np.array([[1], [2]]), "after": np.array([[4], [5]])}
    )
    words = [text.get_text() for text in figure.findobj(Text)]
    assert words.count("before") == words.count("after") == 2


def test_a_map_keeps_the_order_of_the_main_axis():
    vectors = np.outer(np.array([0.0, 3.0, 1.0, 2.0]), np.array([1.0, 2.0, 0.5]))
    places = flat(vectors)
    assert places[:, 0].argsort().tolist() in ([0, 2, 3, 1], [1, 3, 2, 0])
    assert flat(np.random.default_rng(0).normal(size=(12, 5)), "tsne").shape == (12, 2)
    image = as_image(embedding_map(CROPS[:3], np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])))
    assert ((image == [68, 119, 180]).all(2).sum()) == 16  # the covered one is a dot of 4x4 px
    with pytest.raises(InputError, match="2 crops have no map"):
        flat(vectors[:2])


def test_equal_shares_have_equal_colours_whatever_the_body_looks_like():
    mean = torch.rand(40, 20, 3)
    boxes = torch.tensor([[0, 0, 20, 20], [0, 20, 20, 40]])
    image = as_image(confusion_on_body(torch.tensor([[1, 1], [1, 1]]), boxes, mean))
    half = np.round(np.array(HEAT(0.5**0.5)[:3]) * 255).astype(int)
    assert (np.abs(image.astype(int) - half).max(2) <= 1).sum() > 10_000


def test_the_scale_is_even():
    page = Page(10, "")
    page.heat_key([0, 0.5, 1], lambda value: value**0.5, "share")
    ticks = {t.get_text(): t.get_position()[0] for t in page.figure.findobj(Text)}
    assert ticks["50%"] - ticks["0%"] == pytest.approx(ticks["100%"] - ticks["50%"], abs=1)


def test_a_paper_has_no_title_the_width_of_a_column_and_letters_of_8_points(tmp_path):
    with style("paper"):
        page = Page(100, "A title", "a note")
        page.write(24, 10, "words")
        figure = page.finish()
    assert "A title" not in [text.get_text() for text in figure.findobj(Text)]
    (file,) = write_figures(tmp_path, {"x": figure}, style_name="paper")
    assert figure.get_size_inches()[0] == pytest.approx(3.35, abs=0.01)
    sizes = {t.get_text(): t.get_fontsize() for t in figure.findobj(Text)}
    assert sizes["words"] == pytest.approx(8.0)
    with Image.open(file) as image:
        assert image.width == pytest.approx(3.35 * 300, abs=2)
    for kind, start in (("pdf", b"%PDF"), ("svg", b"<?xml")):
        once = write_figures(tmp_path / "a", {"x": figure}, format=kind)[0].read_bytes()
        assert once.startswith(start)
        assert once == write_figures(tmp_path / "b", {"x": figure}, format=kind)[0].read_bytes()


@pytest.mark.e2e
def test_the_figures_of_a_pretraining_again(export, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(export, run)
    assert main(["figures", str(run)]) == 0
    drawn = {file.name for file in (run / "figures").iterdir()}
    assert {"patches.png", "confusion.png", "accuracy.png", "neighbours.png", "map.png"} <= drawn
    pushed = contents_of(run).files
    assert "figures/confusion.png" in pushed
    assert not {f"figures/{name}.png" for name in ("neighbours", "map", "patches")} & set(pushed)


@pytest.mark.e2e
def test_whom_a_model_takes_for_whom(finetuned, tmp_path):
    folder = finetuned("reid")
    output = tmp_path / "drawn"
    assert main(["figures", str(folder), "--split", "test", "--output", str(output)]) == 0
    assert {file.name for file in output.iterdir()} == {"map.png", "neighbours.png", "ranks.png"}

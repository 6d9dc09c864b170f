"""The Space in a headless Chromium: upload, click, a picture comes back."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task
from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.data.canvas import to_canvas
from tests.conftest import make_crops

pytest.importorskip("gradio", reason='the Space needs gradio: pip install -e ".[space]"')
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

pytestmark = pytest.mark.slow
APP = Path(__file__).parents[2] / "examples" / "space" / "app.py"
CANVAS = (50, 25)
PICTURES = {
    "colour.png": lambda crop: crop,
    "photo.jpg": lambda crop: crop.resize((200, 400)),
    "grey.png": lambda crop: crop.convert("L"),
    "see-through.png": lambda crop: crop.convert("RGBA"),
    "palette.gif": lambda crop: crop.quantize(64),
}


def _train(folder, name="position", **options):
    grid = {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2, "input_scale": 4}
    args = TrainingArguments(
        output_dir=str(folder), max_steps=12, train_batch_size=16, crop_cache_gb=0, figures=False
    )
    task = create_task(name, CANVAS, **grid, **options)
    crops = Dataset.from_dict({"image": make_crops(32)})
    PatchTaskTrainer("test_resnet", args, task, crops, data_info={"name": "made up"}).train()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run's folder."""
    folder = tmp_path_factory.mktemp("space") / "run"
    _train(folder)
    return folder


def _environment():
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return env | {"HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1,localhost"}


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    """Where the app is being served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said, kept = tmp_path_factory.mktemp("app") / "log.txt", tmp_path_factory.mktemp("kept")
    with said.open("wb") as log:
        env = _environment() | {"TMPDIR": str(kept)}
        argv = [sys.executable, str(APP), str(run), "--port", str(port)]
        app = subprocess.Popen(argv, env=env, stdout=log, stderr=subprocess.STDOUT)
    end = time.monotonic() + 180
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert app.poll() is None, said.read_text()
        assert time.monotonic() < end, said.read_text()
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    app.terminate()
    app.wait(30)
    left = [path for path in kept.rglob("*") if path.is_file()]
    assert left == []  # nobody's picture is left behind


@pytest.fixture(scope="module")
def chromium():
    """A headless browser: playwright's own, or the machine's."""
    with playwright.sync_playwright() as driver:
        own = Path(driver.chromium.executable_path)
        path = str(own) if own.is_file() else shutil.which("chromium") or shutil.which("chrome")
        if path is None:
            pytest.skip("there is no Chromium: playwright install chromium")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, address):
    """The app's page, which may ask nobody but the app."""
    page = chromium.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.locator("#crop input[type=file]").wait_for(state="attached")
    yield page
    page.close()
    others = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert others == []


def _drop_in(page, file):
    page.set_input_files("#crop input[type=file]", file)
    page.locator("#crop img").wait_for()
    page.get_by_role("button", name="Show where").click()


def _pixels(page, which):
    """The picture that came back."""
    image = page.locator(f"#{which} img")
    image.wait_for()
    with urllib.request.urlopen(image.get_attribute("src")) as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB")).astype(int)


def _put_back(run, picture):
    """How many patches the network really puts back, asked without the app."""
    from patchit_hf import PatchTaskModel

    model = PatchTaskModel.from_pretrained(run)
    crop = torch.from_numpy(to_canvas(picture, CANVAS, "squash").copy()).permute(2, 0, 1)[None]
    batch = model.task.sample_all(crop, Draws(EVAL_SEED, torch.tensor([0])))
    with torch.inference_mode():
        return int((model.task.answers(model(batch.inputs)) == batch.targets).sum())


@pytest.mark.parametrize("name", PICTURES)
def test_a_crop_comes_back_as_the_network_sees_it(page, run, tmp_path, name):
    picture = PICTURES[name](make_crops(1, *CANVAS, seed=7)[0])
    picture.save(tmp_path / name)
    _drop_in(page, tmp_path / name)
    place, heat = _pixels(page, "place"), _pixels(page, "heat")
    right = _put_back(run, Image.open(tmp_path / name))
    assert f"{right} of 6 patches are put back" in page.locator("#words").inner_text()
    for pixels in (place, heat):
        assert pixels.shape[1] == 1000
        assert pixels.std() > 20
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    assert (np.ptp(place, axis=2).max() > 60) == (name != "grey.png")


def test_a_rendered_person_is_asked_about_by_one_click(page):
    page.locator(".gallery-item").nth(1).click()
    assert _pixels(page, "heat").std() > 20
    assert re.search(r"[0-6] of 6 patches are put back", page.locator("#words").inner_text())


def test_a_wide_picture_is_said_to_be_one(page, tmp_path):
    make_crops(1, 60, 90)[0].save(tmp_path / "wide.png")
    _drop_in(page, tmp_path / "wide.png")
    _pixels(page, "place")
    assert "This picture is wider than high" in page.locator("#words").inner_text()


def test_no_picture(page):
    page.get_by_role("button", name="Show where").click()
    page.get_by_text("Drop a picture of one person in first.").wait_for()
    assert page.locator("#heat img").count() == 0


@pytest.mark.parametrize(
    ("size", "words"),
    [((4, 3), "3x4 pixels: smaller than 8 a side"), ((10, 9), "has 9x10 px (width x height)")],
)
def test_a_tiny_picture(page, tmp_path, size, words):
    make_crops(1, *size)[0].save(tmp_path / "tiny.png")
    _drop_in(page, tmp_path / "tiny.png")
    page.get_by_text(words).wait_for()
    assert page.locator("#heat img").count() == 0


def test_a_cut_off_picture(page, tmp_path):
    make_crops(1, 400, 200)[0].save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:3000])
    page.set_input_files("#crop input[type=file]", tmp_path / "cut.jpg")
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Show where").click()
    page.get_by_text("Sorry: the image: not a readable image").wait_for()
    assert page.locator("#heat img").count() == 0


@pytest.mark.parametrize("case", ["nothing", "absent", "pair"])
def test_a_checkpoint_that_cannot_be_shown_is_one_line(tmp_path, case):
    words = {
        "nothing": ([], "name a checkpoint, as an argument or in PATCHIT_CHECKPOINT"),
        "absent": (["no/such/place"], "'no/such/place': neither a folder nor a repository"),
        "pair": ([str(tmp_path / "pair")], "the pair task's answers are no places on the body"),
    }
    if case == "pair":
        _train(tmp_path / "pair", "pair")
    argv, message = words[case]
    env = {k: v for k, v in _environment().items() if k != "PATCHIT_CHECKPOINT"}
    done = subprocess.run(
        [sys.executable, str(APP), *argv], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line

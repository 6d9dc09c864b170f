"""The whole way of a publishable checkpoint, on scenes made here, against the loopback Hub."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from patchit_hf.data.people import render_person
from tests.hub.server import Hub

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "examples" / "release.sh"
CC = "http://creativecommons.org/licenses/"
LICENCES = [
    {"id": 1, "name": "Attribution-NonCommercial License", "url": f"{CC}by-nc/2.0/"},
    {"id": 4, "name": "Attribution License", "url": f"{CC}by/2.0/"},
    {"id": 5, "name": "Attribution-ShareAlike License", "url": f"{CC}by-sa/2.0/"},
    {"id": 6, "name": "Attribution-NoDerivs License", "url": f"{CC}by-nd/2.0/"},
]
COUNT = 16
CLOSED = {f"scene {i}.png" for i in range(COUNT) if i % 4 in (0, 3)} | {"scene 1.png"}


def _scenes(folder, licences=LICENCES):
    """Rendered people pasted into scenes, and their boxes as COCO JSON."""
    folder.mkdir()
    images, annotations = [], []
    for i in range(COUNT):
        y, x = np.mgrid[0:240, 0:320]
        ground = np.stack([x * 0.8, y, 255 - x * 0.5], axis=-1).astype(np.uint8)
        scene = Image.fromarray(ground)
        for j, left in enumerate((30, 190)):
            height = 150 + 10 * (i % 4)
            person = render_person(2 * i + j)["image"].resize((height // 2, height))
            scene.paste(person, (left, 20))
            box = [left, 20, height // 2, height]
            annotations.append({"image_id": i, "bbox": box, "category_id": 1, "iscrowd": 0})
        name = f"scene {i}.png"
        scene.save(folder / name)
        image = {"id": i, "file_name": name, "width": 320, "height": 240}
        image["license"] = LICENCES[i % 4]["id"]
        if i != 1:  # which says nothing of its licence
            images.append({**image, "flickr_url": f"http://pictures.example/{i}"})
        else:
            images.append({k: v for k, v in image.items() if k != "license"})
    boxes = {
        "licenses": licences,
        "images": images,
        "annotations": [{"id": n, **one} for n, one in enumerate(annotations)],
        "categories": [{"id": 1, "name": "person"}],
    }
    path = folder.parent / "instances.json"
    path.write_text(json.dumps(boxes))
    return path


@pytest.fixture
def release(hub: Hub, tmp_path):
    """Calls the script with tiny settings."""
    boxes = _scenes(tmp_path / "my scenes")
    env = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SCENES": str(tmp_path / "my scenes"),
        "BOXES": str(boxes),
        "WORK": str(tmp_path / "work"),
        "LICENCE": "cc-by-sa-4.0",
        "BACKBONE": "test_resnet",
        "CROP_FLAGS": "--min-height 60 --canvas 100x50 --workers 0",
        "TRAIN_FLAGS": "--max-steps 3 --batch-size 8 --canvas 100x50 --no-audit "
        "--task-kwargs rows=3 cols=2 patch_size=16",
        "ACCELERATE_USE_CPU": "1",
        "HF_DATASETS_CACHE": str(tmp_path / "cache"),
    }

    def call(check=True, **more):
        argv = ["bash", str(SCRIPT)]
        return hub.run(argv, env={**env, **more}, cwd=tmp_path, check=check, timeout=400)

    return call


def test_from_scenes_to_a_checkpoint_that_timm_loads(release, hub: Hub, tmp_path):
    work = tmp_path / "work"
    first = release()
    assert f"{COUNT - len(CLOSED)} of {COUNT} pictures have an open licence" in first.stdout
    assert f"read {work}/card/README.md, then push with: REPO=org/name" in first.stdout
    assert hub.repos == {}
    crops = load_dataset(str(work / "crops"), cache_dir=str(tmp_path / "cache"))
    files = {name for split in crops.values() for name in split["file"]}
    assert files
    assert not files & CLOSED
    assert "license: cc-by-sa-4.0" in (work / "crops" / "README.md").read_text()
    licences = [json.loads(line) for line in (work / "run" / "picture_licences.jsonl").open()]
    by_file = {line.pop("file"): line for line in licences}
    assert files <= by_file.keys()
    assert {line["url"] for line in by_file.values()} == {f"{CC}by/2.0/", f"{CC}by-sa/2.0/"}
    assert by_file["scene 2.png"]["from"] == "http://pictures.example/2"

    made = (work / "run" / "patchit.json").read_bytes()
    second = release(REPO="org/people")
    assert (work / "run" / "patchit.json").read_bytes() == made  # not trained again
    assert "have an open licence" not in second.stdout
    pushed = hub.files("org/people")
    assert pushed["picture_licences.jsonl"] == (work / "picture_licences.jsonl").read_bytes()
    assert pushed["README.md"] == (work / "card" / "README.md").read_bytes()
    assert not {"figures/patches.png", "figures/localisation.png"} & pushed.keys()
    hub.run("import timm; timm.create_model('hf-hub:org/people', pretrained=True, num_classes=2)")
    release(REPO="org/people")
    assert len(hub.repo("org/people").log()) == 2  # made, and pushed once


def test_scenes_without_an_open_licence_are_not_used(release, tmp_path):
    boxes = tmp_path / "instances.json"
    closed = {**json.loads(boxes.read_text()), "licenses": LICENCES[:1]}
    boxes.write_text(json.dumps(closed))
    done = release(check=False)
    assert done.returncode != 0
    assert done.stderr.strip() == f"error: {boxes}: no picture is left"
    assert not (tmp_path / "work" / "crops").exists()

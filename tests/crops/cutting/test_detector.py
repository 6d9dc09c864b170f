"""Boxes of tiny detectors with random weights, opened as a user opens real ones."""

import json
import shutil

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

from patchit_hf.common.errors import InputError
from patchit_hf.crops.command import main
from patchit_hf.crops.detector import find_people, open_detector, torchvision_names
from tests.crops.test_crops import HEIGHT, WIDTH, accounted, make_scenes, painted, rows_of, tree

CLASSES = {0: "dog", 1: "person", 2: "tree"}
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Make a folder with a DETR of a few thousand weights."""
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    config = DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False,
        backbone=None, num_queries=6, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, id2label=CLASSES, label2id={v: k for k, v in CLASSES.items()},
    )  # fmt: skip
    model = DetrForObjectDetection(config)
    with torch.no_grad():  # boxes as tall as a person, most of them people
        model.bbox_predictor.layers[-1].bias.copy_(torch.tensor([0.0, 0.0, -1.3, 0.7]))
        model.class_labels_classifier.bias.copy_(torch.tensor([-2.0, 3.0, -2.0, -1.0]))
    folder = tmp_path_factory.mktemp("models") / "tiny-detr"
    model.save_pretrained(folder)
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder


def _run(capsys, *argv):
    capsys.readouterr()
    code = main([str(word) for word in argv])
    return code, capsys.readouterr().err


def _command(tiny, images, out, *more):
    return [
        "--detector", tiny, "--images", images, "--output", out, "--workers", "0",
        "--max-aspect", "4", "--min-height", "20", *more,
    ]  # fmt: skip


@pytest.fixture
def images(tmp_path):
    make_scenes(tmp_path / "images", 5)
    return tmp_path / "images"


def test_a_transformers_detector_finds_what_it_finds(tiny):
    """Compare with the model itself, run on each image alone."""
    detector = open_detector(str(tiny))
    assert (detector.name, detector.persons) == ("tiny-detr", (1,))
    frames = [(f"{i}.png", painted(200 + 20 * i, 120)) for i in range(5)]
    found, bad = find_people(frames, detector, batch=1, score=0.3, total=5)
    assert bad == {}
    assert found.images == [name for name, _ in frames]
    assert found.labels == ["person"]
    assert found.sizes.tolist() == [[200 + 20 * i, 120] for i in range(5)]
    model = DetrForObjectDetection.from_pretrained(tiny).eval()
    processor = DetrImageProcessor.from_pretrained(tiny)
    for number, (_, picture) in enumerate(frames):
        with torch.inference_mode():
            output = model(**processor(images=picture, return_tensors="pt"))
        share = output.logits[0].softmax(-1)
        best, label = share[:, :-1].max(-1)
        kept = (label == 1) & (best >= 0.3)
        cx, cy, w, h = (output.pred_boxes[0][kept] * torch.tensor([picture.width, 120] * 2)).T
        expected = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        mine = found.boxes[found.image == number]
        assert len(mine) == len(expected) > 0
        np.testing.assert_allclose(mine, expected.numpy(), atol=0.05)
        np.testing.assert_allclose(found.score[found.image == number], best[kept], atol=1e-4)


def test_batches_find_the_same(tiny):
    """Images of one size; others are padded within a batch, which may change the result."""
    detector = open_detector(str(tiny))
    rng = np.random.default_rng(0)
    frames = [(f"{i}.png", painted().rotate(int(rng.integers(0, 360)))) for i in range(5)]
    one, two = (
        find_people(iter(frames), detector, batch=size, score=0.1, total=None)[0] for size in (1, 3)
    )
    assert one.images == two.images
    np.testing.assert_allclose(one.boxes, two.boxes, atol=0.1)


def test_from_pictures_to_crops_with_a_detector(tmp_path, tiny, images, capsys):
    out = tmp_path / "out"
    command = _command(tiny, images, out, "--detector-score", "0.3")
    code, text = _run(capsys, *command)
    assert code == 0, text
    report = json.loads((out / "report.json").read_text())
    accounted(out, report["boxes"]["in_all"])
    assert report["boxes"]["kept"] > 3
    assert (report["detections"], report["format"]) == ("tiny-detr", "detector")
    assert all(row["label"] == "person" and row["score"] >= 0.3 for row in rows_of(out))
    card = (out / "README.md").read_text()
    assert "found by the detector `tiny-detr`, whose weights have their own licence" in card
    assert str(tmp_path) not in card + (out / "dropped.jsonl").read_text()
    before = tree(out)
    shutil.move(tiny / "model.safetensors", tiny / "gone")  # a finished data set needs no detector
    try:
        assert _run(capsys, *command)[0] == 0
        assert tree(out) == before
        code, text = _run(capsys, *_command(tiny, images, out, "--detector-score", "0.4"))
    finally:
        shutil.move(tiny / "gone", tiny / "model.safetensors")
    assert code == 2  # with another score, it has to detect again
    assert "--detector" in text
    assert tree(out) == before


def test_videos_and_every_kth_frame(tmp_path, tiny, capsys):
    pytest.importorskip("av")
    from tests.crops.cutting.test_videos import FRAMES, make_video

    make_video(tmp_path / "cam.mp4")
    out = tmp_path / "out"
    code, text = _run(
        capsys, *_command(tiny, tmp_path / "cam.mp4", out, "--every", "15", "--detector-score", "0")
    )
    assert code == 0, text
    frames = {row["file"] for row in rows_of(out)}
    assert frames
    assert frames <= {f"cam.mp4#{n}" for n in range(0, FRAMES, 15)}
    assert json.loads((out / "report.json").read_text())["pictures"]["in_all"] == 4


def test_bad_pictures_stop_or_are_named(tmp_path, tiny, images, capsys):
    (images / "cam0/frame_2.png").write_bytes(b"")
    out = tmp_path / "out"
    code, text = _run(capsys, *_command(tiny, images, out))
    assert code == 2
    assert "error: image cam0/frame_2.png: the file is empty (--on-bad-image skip leaves" in text
    assert not out.exists()
    code, text = _run(capsys, *_command(tiny, images, out, "--on-bad-image", "skip"))
    assert code == 0, text
    bad = [json.loads(line) for line in (out / "bad_pictures.jsonl").read_text().splitlines()]
    assert bad == [
        {
            "picture": "cam0/frame_2.png",
            "first_box": None,
            "boxes": 0,
            "replaced": 0,
            "reason": "the file is empty",
        }
    ]
    assert json.loads((out / "report.json").read_text())["pictures"]["bad"] == 1


@pytest.mark.e2e
def test_a_torchvision_detector_by_name(tmp_path):
    assert SMALL in torchvision_names()
    torch.manual_seed(0)
    detector = open_detector(f"{SMALL}:none")
    assert detector.persons == (1,)
    found, _ = find_people([("a.png", painted())], detector, batch=1, score=0.0, total=1)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [WIDTH, HEIGHT] * 2).all()
    model = torchvision.models.get_model(SMALL, weights=None, weights_backbone=None)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    model.eval()
    with torch.inference_mode():
        (expected,) = model([torchvision.transforms.functional.to_tensor(painted())])
    persons = expected["labels"] == 7
    for file in ("w.safetensors", "w.pth"):
        same = open_detector(f"{SMALL}:{tmp_path / file}", label="7")
        found, _ = find_people([("a.png", painted())], same, batch=1, score=0.0, total=1)
        assert len(found) == int(persons.sum())
        order = np.argsort(-found.score, kind="stable")
        np.testing.assert_allclose(found.boxes[order], expected["boxes"][persons], atol=1e-3)


def test_words_that_cannot_work(tmp_path, tiny, images, capsys):
    out = tmp_path / "out"
    cases = [
        (
            ["--detector", "nobody/knows"],
            "--detector 'nobody/knows': is neither a torchvision detector",
        ),
        (["--detector", f"{SMALL}:BEST"], f"--detector '{SMALL}:BEST'"),
        (["--detector", f"{SMALL}:gone.pth"], "gone.pth"),
        (["--detector", f"{SMALL}:none", "--detector-label", "man"], "name no classes"),
        (["--detector", tiny, "--detector-label", "cat"], "has no class 'cat' (classes: dog, per"),
        (["--detector", tiny, "--exif", "stored"], "--exif stored"),
        (["--detector", tiny, "--detector-score", "1"], "found nobody in"),
        (["--detector", tiny, "--detector-score", "2"], "--detector-score 2.0: must be from 0"),
        (["--detector", tiny, "--detector-batch", "0"], "--detector-batch 0: must be at least 1"),
        (["--detector", tiny, "--detections", "b.txt"], "not both"),
    ]
    for words, line in cases:
        code, text = _run(capsys, *words, "--images", images, "--output", out, "--workers", 0)
        assert code == 2, words
        (said,) = [word for word in text.splitlines() if word.startswith("error:")]
        assert line in said
        assert not out.exists()


def test_weights_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read without running code"):
        open_detector(f"{SMALL}:{tmp_path / 'w.pth'}")
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"--detector .*Missing key"):
        open_detector(f"{SMALL}:{tmp_path / 'w.safetensors'}")

"""Feed damaged and hostile files to the readers of boxes, images, configurations and checkpoints.

Each reader either reads a file or raises its own kind of error with one line; anything else is a
finding: a traceback, a hang, a file that runs. ``python tests/fuzz.py --minutes 60`` makes new
files until the time is over, ``python tests/fuzz.py boxes images`` only for these readers. It stops
at the first finding, and prints the smallest file that shows it. Each finding becomes a test.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from patchit_hf import create_task
from patchit_hf.common.arguments import Arguments
from patchit_hf.common.cli import parse
from patchit_hf.common.config import parse_yaml
from patchit_hf.common.errors import InputError
from patchit_hf.common.layout import HEAD_FILE
from patchit_hf.crops.detections import read_detections
from patchit_hf.data.bad import read_manifest
from patchit_hf.data.canvas import load_canvas
from patchit_hf.data.pictures import BadPictureError, open_picture, size_of
from patchit_hf.models.build import build_model
from patchit_hf.models.exported import model_args, pretrained_cfg
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import open_initial
from patchit_hf.models.patch_task_model import PatchTaskModel
from patchit_hf.pretrain.arguments import PretrainArguments, TrainingArguments
from patchit_hf.publish.export import export_run
from patchit_hf.publish.model_card import write_card
from patchit_hf.training.checkpoint import (
    DamagedError,
    newest_whole,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from patchit_hf.training.run_folder import History, RunFolder

SLOW = 20.0  # seconds, after which a reader counts as hanging
BUGS = (TypeError, AttributeError, KeyError, IndexError, AssertionError, ZeroDivisionError)

# -- what is wrong with a file ---------------------------------------------------------------------

ODD_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]),
    st.just({}), st.sampled_from([10**7, 10**30, -1, "1" * 5000, "\x1b[31m", "../x", "NaN", 1e308]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes of a good file with some of them changed, cut, doubled or put elsewhere."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "copy", "zero"]))
        if kind == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 1000))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        elif kind == "copy":
            data[at:at] = data[at : at + draw(st.integers(1, 100))]
        else:
            data[at : at + 4] = bytes(4)
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """A JSON value with odd values, or none, in some places."""
    value = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(_places(value) or [([value], 0)]))
        if isinstance(holder, dict) and draw(st.booleans()):
            holder.pop(key, None)
        else:
            holder[key] = draw(ODD_VALUES)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += _places(value[key])
    return found


# -- the readers -----------------------------------------------------------------------------------


class Fuzzer:
    """Good files, made once, and for each kind of reader a function that draws bad ones.

    Args:
        folder: where files are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boxes_seeds = _good_boxes()
        self.images_seeds = _good_images()
        self.export = _export(folder / "export")
        self.checkpoints = _checkpoint(folder / "checkpoints")

    def boxes(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        """Read a damaged file of boxes in the format that it seems to have, and in each."""
        name, good = draw(st.sampled_from(sorted(self.boxes_seeds.items())))
        content = draw(damaged(good))
        if name.endswith(".json") and draw(st.booleans()):
            content = json.dumps(draw(changed(json.loads(good)))).encode()
        file = self._fresh() / name
        file.write_bytes(content)
        kind = draw(st.sampled_from([None, None, "coco", "voc", "yolo", "mot", "text", "table"]))
        _expect(lambda: read_detections(file, kind), InputError)

    def images(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        """Decode a damaged image in all ways."""
        content = draw(damaged(draw(st.sampled_from(self.images_seeds))))
        file = self._fresh() / "image.png"
        file.write_bytes(content)
        value = {"bytes": content, "path": None}
        _expect(lambda: load_canvas(value, (20, 10), "squash", "row 1"), InputError)
        _expect(lambda: load_canvas(value, (20, 10), "cover", "row 1"), InputError)
        _expect(lambda: open_picture(file, 10**7), BadPictureError)
        size_of(file, stored=True)

    def configs(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        """Read arguments from a file and from the command line, and odd records of exports."""
        file = self._fresh() / "args.yaml"
        text = "seed: 3\nlearning_rate: 1e-3\ntask_kwargs: {rows: 3}\nmax_steps: [1]\n"
        file.write_bytes(draw(st.one_of(damaged(text.encode()), st.binary(max_size=60))))
        classes: tuple[type[Arguments], ...] = (PretrainArguments, TrainingArguments)
        _expect(lambda: parse("", ["--config", str(file)], *classes, prog="x"), InputError)
        word = draw(st.text(max_size=30))
        _expect(lambda: parse("", ["--task-kwargs", f"a={word}"], *classes, prog="x"), InputError)
        _expect(lambda: parse_yaml(word, "x"), InputError)
        folder = self._fresh()
        for name in ("patchit.json", "config.json"):
            good = json.loads((self.export / name).read_text())
            value = draw(st.one_of(st.just(good), changed(good)))
            (folder / name).write_text(json.dumps(value))
        for name in ("model.safetensors", HEAD_FILE, "README.md"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(self.export / name, folder / name)
        _expect(lambda: PatchTaskModel.from_pretrained(folder), InputError)
        _expect(lambda: FinetunedModel.from_pretrained(folder), InputError)
        _expect(lambda: open_initial(str(folder), None, 0), InputError)
        _expect(lambda: (pretrained_cfg(folder), model_args(folder)), InputError)
        _expect(lambda: write_card(folder, folder / "card"), InputError)

    def checkpoints_(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        """Read damaged checkpoints, weights, records of runs and lists."""
        folder = self._fresh()
        step = folder / "checkpoints" / "step-00000002"
        shutil.copytree(self.checkpoints / "step-00000002", step)
        name = draw(st.sampled_from(["state.json", "model.safetensors", "optimizer.pt"]))
        (step / name).write_bytes(draw(damaged((step / name).read_bytes())))
        if draw(st.booleans()):
            (step / "SHA256SUMS").unlink()
        _expect(lambda: newest_whole(folder / "checkpoints", say=False), ())
        found = _expect(lambda: read_checkpoint(step), DamagedError)
        if found is not None:
            model = torch.nn.Linear(4, 2)
            optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
            _expect(lambda: restore(found, found.config, model, optimizer, None), InputError)
        weights = folder / "w.safetensors"
        weights.write_bytes(draw(damaged((self.export / "model.safetensors").read_bytes())))
        _expect(lambda: open_initial(str(weights), "test_resnet", 0), InputError)
        for file, good in (("metrics.jsonl", b'{"step": 1, "eval_loss": 2.5}\n' * 2),
                           ("bad_images.jsonl", b'{"part": "train", "row": 3, "file": null, '
                            b'"reason": "r", "became": "b"}\n')):  # fmt: skip
            (folder / file).write_bytes(draw(damaged(good)))
        _expect(lambda: History(folder / "metrics.jsonl", True, 10), ())
        _expect(lambda: read_manifest(folder / "bad_images.jsonl"), ())
        (folder / "run").mkdir()
        (folder / "run" / "run.json").write_bytes(draw(damaged(b'{"config": {"seed": 1}}')))
        _expect(lambda: RunFolder(folder / "run", {"seed": 1}), InputError)

    def _fresh(self) -> Path:
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return work


def _expect(read: Callable[[], Any], allowed: Any) -> Any:
    """Return what a reader returned, None if it raised its own kind of error in one line."""
    began = time.monotonic()
    try:
        return read()
    except allowed as error:
        if len(str(error).splitlines()) > 1:
            raise AssertionError(f"several lines: {error}") from error
        if _bug_of_ours(error.__cause__) and "cannot be read: " in str(error):
            raise AssertionError(f"found by the last net only: {error}") from error
        return None
    finally:
        if time.monotonic() - began > SLOW:
            raise AssertionError(f"took {time.monotonic() - began:.0f} s")


def _bug_of_ours(error: BaseException | None) -> bool:
    """Return whether an error that the last net caught was raised outside other libraries.

    torch's own reader of pickles raises IndexError and the like for damaged ones.
    """
    if not isinstance(error, BUGS):
        return False
    innermost = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return not innermost.f_globals.get("__name__", "").startswith("torch.")


# -- good files ------------------------------------------------------------------------------------


def _good_boxes() -> dict[str, bytes]:
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 320, "height": 240, "video_id": 7}],
        "videos": [{"id": 7, "name": "v"}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"image_id": 1, "bbox": [1, 2, 30, 40.5], "category_id": 1, "score": 0.5, "track_id": 3}
        ],
    }
    voc = (
        "<annotation><filename>a.jpg</filename><size><width>320</width><height>240</height></size>"
        "<object><name>person</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax>"
        "<ymax>40</ymax></bndbox></object></annotation>"
    )
    table = pyarrow.table({"image": ["a.jpg"], "x": [1.0], "y": [2.0], "w": [3.0], "h": [4.0]})
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(table, parquet)
    return {
        "coco.json": json.dumps(coco).encode(),
        "results.json": json.dumps(coco["annotations"]).encode(),
        "voc.xml": voc.encode(),
        "yolo.txt": b"0 0.5 0.5 0.2 0.4 0.9 3\n1 0.1 0.1 0.2 0.2\n0 0.1 0.1 0.2 0.1 0.2 0.3\n",
        "data.yaml": b"names: {0: person, 1: car}\n",
        "gt.txt": b"1,2,10,20,30,40,1,1,0.8\n2,2,11,20,30,40,1,1,0.8\n",
        "boxes.txt": b"# comment\na b.jpg 10 20 60 140\n",
        "boxes.csv": b"image,x,y,w,h,score,label,frame\na.jpg,1,2,3,4,0.5,person,7\n",
        "boxes.parquet": parquet.getvalue(),
    }


def _good_images() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    found = []
    for kind, options in (
        ("JPEG", {"exif": exif}), ("JPEG", {"progressive": True}), ("PNG", {"exif": exif}),
        ("WEBP", {"exif": exif}), ("WEBP", {"lossless": True}), ("TIFF", {"exif": exif}),
        ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("PPM", {}), ("TGA", {}), ("AVIF", {}),
        ("JPEG2000", {}), ("GIF", {"save_all": True, "append_images": [image.rotate(90)]}),
        ("MPO", {"save_all": True, "append_images": [image]}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found.append(buffer.getvalue())
    for mode in ("I;16", "P", "CMYK", "1", "LA", "F"):
        buffer = io.BytesIO()
        source = Image.fromarray(pixels[..., 0].astype(np.uint16)) if mode == "I;16" else None
        (source or image.convert(mode)).save(buffer, "TIFF" if mode in ("CMYK", "F") else "PNG")
        found.append(buffer.getvalue())
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    return [*found, eps]


def _export(folder: Path) -> Path:
    task = create_task("position", (50, 25), rows=3, cols=2, patch_size=8)
    record = {
        "command": "patchit pretrain", "config": {"seed": 0},
        "data": {
            "name": "crops", "fingerprint": "f", "train_crops": 10, "eval_crops": 2,
            "held_out_from": "validation split", "mean": [0.4] * 3, "std": [0.2] * 3,
        },
        "training": {
            "patches": 10, "steps": 1, "seconds": 1.0, "hardware": "CPU", "processes": 1,
            "mixed_precision": "no", "gradient": None, "batch_norm_statistics": "patches",
            "stopped": None,
        },
        "audit": None, "figures": [], "probe": None, "initial_weights": None,
        "results": {"eval_accuracy": 0.5, "chance": 0.1, "step": 1},
    }  # fmt: skip
    model = build_model("test_resnet", task, seed=0)
    return export_run(folder, model.eval(), task, record)


def _checkpoint(folder: Path) -> Path:
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.ones(4)).sum().backward()
    optimizer.step()
    save_checkpoint(folder, 2, {"seed": 0}, model, optimizer, None, {"seconds": 1.0}, 3)
    return folder


READERS = ("boxes", "images", "configs", "checkpoints")


def fuzz(fuzzer: Fuzzer, reader: str, number: int, examples: int) -> None:
    """Give a reader so many files, other ones for each number; a finding is raised."""

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def run(data: st.DataObject) -> None:
        getattr(fuzzer, "checkpoints_" if reader == "checkpoints" else reader)(data.draw)

    run()


def main() -> None:
    """Fuzz until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--examples", type=int, default=100, help="files of one round")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    args.readers = args.readers or list(READERS)
    warnings.simplefilter("ignore")
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        fuzzer, counts = Fuzzer(Path(folder)), dict.fromkeys(args.readers, 0)
        number = args.seed
        while time.monotonic() < end:
            for reader in args.readers:
                fuzz(fuzzer, reader, number, args.examples)
                counts[reader] += args.examples
            number += 1
            left = math.ceil(max(0.0, end - time.monotonic()) / 60)
            sys.stderr.write(f"seed {number - 1}: nothing found; {counts}; {left} minutes left\n")


if __name__ == "__main__":
    main()

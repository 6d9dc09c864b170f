"""Execute the blocks of pages: ``python run_pages.py FOLDER PAGE...``.

In the folder lies what the pages name: ``path/to/crops``, ``runs/mine``, ``boxes.json`` and so on,
each real and small. Commands run in this process with a budget of two steps; where a page starts
several processes, one does the work. ``pip`` and ``pytest`` are left to ``.ci/run``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import av
import datasets
import timm
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import save_file

from patchit_hf import load_people, render_person
from patchit_hf.shell.main import main as patchit_main
from tests.docs.pages import CODE, blocks, commands, patchit

PRETRAIN = ["--max-steps", "2", "--batch-size", "36", "--max-eval-crops", "4"]
FINETUNE = ["--max-steps", "2", "--batch-size", "8", "--eval-every", "0"]
QUICK = ["--no-figures", "--no-audit"]
BUDGET = {
    "pretrain": [*PRETRAIN, *QUICK],
    "finetune": [*FINETUNE, "--input-size", "64x32"],
    "compare": [*FINETUNE, "--input-size", "64x32", "--seeds", "1", "--learning-rates", "1e-3"],
    "audit": ["--max-eval-crops", "4"],
    "evaluate": ["--bootstrap", "20"],
    "crops": ["--workers", "0", "--min-height", "50"],
}
LEFT = {"pip", "pytest", "source", "pre-commit", "bash"}


def run(words: list[str]) -> None:
    """Run a command of ours."""
    code = patchit_main(words)
    assert code == 0, f"exit code {code}: patchit {' '.join(words)}"
    AcceleratorState._reset_state(reset_partial_state=True)


def lay_out(folder: Path) -> None:
    """Put into a folder what the pages name."""
    people = load_people(64, num_proc=1)
    for name, splits in {
        "path/to/crops": {"train": range(40), "validation": range(40, 48)},
        "path/to/labelled": {
            "train": range(32),
            "validation": range(32, 48),
            "test": range(48, 64),
        },
        "path/to/others": {"test": range(40, 64)},
    }.items():
        (folder / name).mkdir(parents=True)
        for split, rows in splits.items():
            file = folder / name / f"{split}-00000-of-00001.parquet"
            people.select(rows).to_parquet(str(file))
    render_person(70)["image"].save(folder / "person.jpg")
    render_person(71)["image"].save(folder / "other.jpg")
    frames(folder)
    video(folder)
    (folder / "runs").mkdir()
    weights = timm.create_model("mobilenetv2_100", num_classes=0).state_dict()
    save_file(weights, folder / "runs" / "imagenet.safetensors")


def frames(folder: Path) -> None:
    """Write two frames with two people each, and their boxes."""
    (folder / "frames").mkdir()
    images, boxes = [], []
    for number in range(2):
        frame = Image.new("RGB", (320, 240), (90, 100, 110))
        images.append({"id": number, "file_name": f"{number:03}.jpg", "width": 320, "height": 240})
        for place in range(2):
            box = [20 + 130 * place, 20, 100, 200]
            frame.paste(render_person(80 + 2 * number + place)["image"], box[:2])
            boxes.append({"id": len(boxes), "image_id": number, "category_id": 1, "bbox": box})
        frame.save(folder / "frames" / f"{number:03}.jpg")
    found = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    (folder / "boxes.json").write_text(json.dumps(found))


def video(folder: Path) -> None:
    """Write a video of two people, and their boxes of each frame in MOTChallenge's format."""
    frame, boxes = Image.open(folder / "frames" / "000.jpg"), []
    with av.open(str(folder / "square.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *frame.size, "yuv420p"
        for number in range(1, 31):
            out.mux(stream.encode(av.VideoFrame.from_image(frame)))
            boxes += [f"{number},{who},{130 * who - 110},20,100,200,1,1,1" for who in (1, 2)]
        out.mux(stream.encode())
    (folder / "mot.txt").write_text("\n".join(boxes))


def train(folder: Path, code: str) -> None:
    """Train the runs that the code of the pages names."""
    crops, labelled = str(folder / "path/to/crops"), str(folder / "path/to/labelled")
    small = ["--backbone", "resnet18", "--dataset"]
    for name, more in {"mine": [], "more": ["--task", "pair"]}.items():
        if f"runs/{name}" in code:
            words = [*small, crops, *BUDGET["pretrain"], *more, "--output-dir", f"runs/{name}"]
            run(["pretrain", *words])
    for task in ("attributes", "reid"):
        if f"runs/{task}" in code:
            words = ["--task", task, "--init", "runs/mine", "--dataset", labelled]
            run(["finetune", *words, *BUDGET["finetune"], "--output-dir", f"runs/{task}"])


def execute(page: Path) -> None:
    """Execute the blocks of a page in the working folder."""
    scope: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.why is not None or block.language not in CODE:
            continue
        if block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), scope)
            AcceleratorState._reset_state(reset_partial_state=True)
        for number, words in enumerate(commands(block.text) if block.language == "bash" else ()):
            ours = patchit(words)
            if ours is None:
                assert words[0] in LEFT, words
                continue
            ours += BUDGET.get(ours[0], [])
            if ours[0] in ("pretrain", "audit") and "--dataset" not in ours:
                ours += ["--dataset", "path/to/crops"]  # of the 4,000 rendered people, the first
            if ours[0] in ("pretrain", "finetune", "compare"):
                if "--output-dir" not in ours:
                    ours += ["--output-dir", f"runs/line-{block.line}-{number}"]
                shutil.rmtree(ours[ours.index("--output-dir") + 1], ignore_errors=True)
            run(ours)
        print(f"ran: {page.name}:{block.line}", flush=True)


def main(folder: str, *pages: str) -> None:
    """Lay everything out, and execute each page in a copy of it."""
    import os

    datasets.disable_progress_bars()
    ground = Path(folder, "ground")
    ground.mkdir()
    os.chdir(ground)
    lay_out(ground)
    train(ground, "".join(block.text for page in pages for block in blocks(Path(page))))
    for page in pages:
        work = Path(folder, Path(page).stem)
        shutil.copytree(ground, work)
        os.chdir(work)
        execute(Path(page))


if __name__ == "__main__":
    main(*sys.argv[1:])

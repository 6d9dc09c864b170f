"""What users get wrong, and whether the answer is one clear line.

Each mistake is made by the command as it is installed, in a folder with a few crops and two small
runs. An answer is clear if it ends with exit code 2 and a single line that names what was given and
what to do instead, for which each mistake has words of its own.

Example:
    python benchmarks/mistakes.py
    python benchmarks/mistakes.py --json mistakes.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
from PIL import Image

from patchit_hf.shell.main import main


class Mistake(NamedTuple):
    """Words that somebody types, and words that a clear answer has."""

    typed: str
    answer: tuple[str, ...]


MISTAKES = [
    Mistake(typed, tuple(answer.split(" | ")))
    for typed, answer in (
        ("pretrian", "'pretrian' | did you mean pretrain?"),
        ("--backbone resnet18", "--backbone | patchit --help"),
        ("pretrain --learning_rte 1e-3", "--learning-rte | did you mean --learning-rate?"),
        ("pretrain --lr 1e-3", "--lr | did you mean --learning-rate?"),
        ("pretrain --batch 8", "--batch: | did you mean --batch-size?"),
        ("pretrain --num_train_epochs 3", "did you mean --epochs?"),
        ("pretrain -dataset crops", "-dataset | did you mean --dataset?"),
        ("pretrain crops", "'crops' | did you mean --dataset crops?"),
        ("pretrain batch_size=8", "did you mean --batch-size 8?"),
        ("pretrain --streaming true", "--streaming | takes no value | --no-streaming"),
        ("pretrain --dataset", "--dataset | needs a value"),
        ("pretrain --dataset crps", "'crps' | did you mean crops?"),
        ("pretrain --dataset empty", "'empty' | the folder is empty"),
        ("pretrain --dataset texts", "'texts' | columns: text | must be images"),
        ("pretrain --dataset crops/0.png", "'crops/0.png' | must be a folder"),
        ("pretrain --dataset labelled --split trian", "'trian' | did you mean train?"),
        ("pretrain --dataset labelled --image-column img", "'img' | image columns: image"),
        ("pretrain --epochs many", "'many' | a number"),
        ("pretrain --batch-size 1.5", "'1.5' | a whole number"),
        ("pretrain --batch-size 0", "--batch-size 0 | at least 1"),
        ("pretrain --learning-rate -1", "--learning-rate -1.0 | above 0"),
        ("pretrain --task positon", "'positon' | did you mean position?"),
        ("pretrain --backbone test_resnet --task-kwargs row=4", "'row' | did you mean rows?"),
        ("pretrain --task-kwargs rows", "'rows' | KEY=VALUE"),
        ("pretrain --canvas 200", "'200' | HEIGHTxWIDTH | 200x100"),
        ("pretrain --backbone resnet81", "'resnet81' | similar names: resnet18"),
        ("pretrain --backbone resnet18.a1_in1k", "--backbone resnet18 --init timm:a1_in1k"),
        ("pretrain --init tim", "'tim' | did you mean timm?"),
        ("pretrain --init runs/mnie", "'runs/mnie' | did you mean runs/mine?"),
        ("pretrain --init runs/elsewhere", "'runs/elsewhere' | no such folder"),
        ("pretrain --init w.safetensors", "'w.safetensors' | no such file"),
        ("pretrain --backbone test_resnet --dataset crops --optimizer adamv",
         "'adamv' | did you mean adam"),
        ("pretrain --optimizer-args lr=3", "lr=3 | --learning-rate 3"),
        ("pretrain --schedule cosin", "'cosin' | did you mean cosine?"),
        ("pretrain --fit squach", "'squach' | did you mean squash?"),
        ("pretrain --mixed-precision fp15", "'fp15' | bf16, fp16"),
        ("pretrain --config rnus.yaml", "'rnus.yaml' | did you mean runs.yaml?"),
        ("pretrain --config runs.yaml", "'backbon' | did you mean backbone?"),
        ("pretrain --push-to-hub", "--hub-model-id | org/name"),
        ("pretrain --config runs/mine/args.yaml --seed 1", "runs/mine | seed (42 there, 1 here)"),
        ("finetune --task atributes", "'atributes' | did you mean attributes?"),
        ("finetune --backbone test_resnet --dataset labelled --task pose", "keypoints"),
        ("finetune --dataset crops --backbone test_resnet", "no label column | columns=["),
        ("finetune --init runs/mine --backbone resnet50 --dataset labelled",
         "test_resnet | 'resnet50'"),
        ("finetune --input-size 128", "--input-size '128' | HEIGHTxWIDTH"),
        ("evaluate", "FOLDER is needed"),
        ("evaluate runs/mine", "not a finetuned model | finetune it first"),
        ("evaluate runs/hta", "runs/hta | did you mean runs/hat?"),
        ("predict runs/hat crops/0.pgn", "'crops/0.pgn' | did you mean crops/0.png?"),
        ("predict runs/hat crops --output found.xlsx", "'found.xlsx' | .parquet, .csv or .json"),
        ("crops --detections boxs.txt --images crops --output cut",
         "'boxs.txt' | did you mean boxes.txt?"),
        ("crops --detections boxes.txt --images crops --output cut --box-format xyxy "
         "--min-height 8 --source image --context 0.2", "'cut' | context 0.0 there, 0.2 here"),
    )
]  # fmt: skip


class Answer(NamedTuple):
    """What came of a mistake."""

    typed: str
    code: int
    said: str
    clear: bool
    seconds: float


def make_folder(folder: Path) -> None:
    """Write what the mistakes are made with: crops, labels, boxes and two small runs."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (60, 30, 3), np.uint8)) for _ in range(40)]
    for name in ("crops", "labelled", "empty", "texts"):
        (folder / name).mkdir()
    for number, picture in enumerate(pictures[:10]):
        picture.save(folder / "crops" / f"{number}.png")
    (folder / "texts" / "notes.txt").write_text("no picture\n")
    (folder / "runs.yaml").write_text("backbon: resnet18\n")
    rows = {"image": pictures, "hat": [i % 2 == 0 for i in range(40)]}
    labelled = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    labelled.to_parquet(str(folder / "labelled" / "train-00000-of-00001.parquet"))
    (folder / "boxes.txt").write_text("".join(f"{i}.png 5 5 25 55\n" for i in range(10)))
    short = "--max-steps 1 --batch-size 8 --eval-every 0 --save-every 0 --output-dir"
    for words in (
        "pretrain --backbone test_resnet --dataset labelled --canvas 50x25 --no-figures "
        f"--task-kwargs rows=3 cols=2 patch_size=8 jitter=2 {short} runs/mine",
        f"finetune --init runs/mine --dataset labelled --input-size 64x32 {short} runs/hat",
        "crops --detections boxes.txt --images crops --output cut --box-format xyxy "
        "--min-height 8 --source image --workers 0",
    ):
        code, said = run(words)
        if code:
            raise RuntimeError(f"{words}: {said}")


def run(words: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it said on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words.split())
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:  # a traceback is not clear
            return 1, f"{type(error).__name__}: {error}"
    return code, said.getvalue()


def judged(mistake: Mistake) -> Answer:
    """Make a mistake and judge the answer."""
    began = time.perf_counter()
    code, said = run(mistake.typed)
    lines = [line for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    errors = [line for line in lines if line.startswith("error: ")]
    clear = code == 2 and errors == [last] and all(word in last for word in mistake.answer)
    return Answer(mistake.typed, code, last, clear, round(time.perf_counter() - began, 2))


def answers() -> list[Answer]:
    """Make every mistake in a folder of its own."""
    before = Path.cwd()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            make_folder(Path(name))
            return [judged(mistake) for mistake in MISTAKES]
        finally:
            os.chdir(before)


def report(found: list[Answer]) -> str:
    """Return a line for each mistake and its answer, and the count of clear ones."""
    lines = [
        f"{'clear' if a.clear else 'WEAK '}  patchit {a.typed}\n       {a.said}" for a in found
    ]
    return "\n".join([*lines, f"{sum(a.clear for a in found)} of {len(found)} are clear"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the answers here, too")
    args = parser.parse_args()
    all_answers = answers()
    sys.stdout.write(report(all_answers) + "\n")
    if args.json:
        args.json.write_text(json.dumps([a._asdict() for a in all_answers], indent=1) + "\n")

"""How much the choice of 1,600 labels matters for finetuning: results with other choices.

    python benchmarks/label_draws.py --draws 1 2 3

finetunes random weights and those of ``runs/peta-resnet10t-large`` on each draw of labels (PETA,
192x96, ten epochs, one seed), with the learning rates that ``downstream.py`` chose on the first
draw, and evaluates them on the test split. Finished runs are not repeated. Results go into
``benchmarks/results/label-draws.json``.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from downstream import DATA, RESULTS, _python, pretraining

STARTS = {
    "random": "--init random --learning-rate 1e-3",
    "1024k": "--init runs/peta-resnet10t-large --learning-rate 4e-3",
}


def commands(start: str, draw: int) -> tuple[list[str], list[str]]:
    """Return the arguments of finetuning and of evaluation, after ``python -m``."""
    folder = f"runs/label-draws/{start}-{draw}"
    finetune = (
        f"patchit_hf.finetune --task attributes --dataset {DATA}/peta --backbone resnet10t "
        f"--input-size 192x96 --epochs 10 --fraction 0.198 --subset-seed {draw} {STARTS[start]} "
        f"--eval-every 0 --save-every 0 --output-dir {folder}"
    )
    judge = (
        f"patchit_hf.evaluate {folder} --dataset {DATA}/peta --split test "
        f"--output-dir {folder}/test"
    )
    return shlex.split(finetune), shlex.split(judge)


def main() -> None:
    """Run what is missing and store the metrics of all runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--draws", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=["random", "1024k"])
    what = parser.parse_args()
    if "1024k" in what.starts and not Path("runs/peta-resnet10t-large/patchit.json").exists():
        _python("patchit_hf.pretrain", pretraining("peta-resnet10t-large"))
    file = RESULTS / "label-draws.json"
    for start in what.starts:
        for draw in what.draws:
            words = commands(start, draw)
            judged = Path(words[1][-1], "metrics.json")
            if not judged.exists():
                for module, *rest in words:
                    _python(module, rest)
            record = json.loads(judged.read_text())
            found = json.loads(file.read_text()) if file.exists() else {}
            found[f"{start}-{draw}"] = {
                "commands": [f"python -m {shlex.join(command)}" for command in words],
                **{key: value for key, value in record.items() if key not in ("table", "command")},
            }
            file.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()

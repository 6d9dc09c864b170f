"""Train every task for some steps and export them; run by test_distributed under a launcher.

Usage: train_family.py FOLDER ACCUMULATION
"""

import sys

import datasets

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task

SMALL = {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2, "input_scale": 4}
FAMILY = {
    "context": {"patch_size": 6, "gap": 1, "jitter": 1, "input_scale": 6},
    "jigsaw": {**SMALL, "rows": 2, "permutations": 6},
    "pair": SMALL,
    "people": {**SMALL, "patches_per_crop": 4},
    "scale": {"sizes": [8, 12], "patch_size": 8, "jitter": 2, "input_scale": 4},
    "shuffle": {**SMALL, "input_scale": 2},
}


def main(folder: str, accumulation: str) -> None:
    """Train them one after the other."""
    data = datasets.load_dataset("parquet", data_files=f"{folder}/crops/*.parquet", split="train")
    for name, options in FAMILY.items():
        args = TrainingArguments(
            output_dir=f"{folder}/run-{name}", max_steps=4, train_batch_size=16, optim="sgd",
            learning_rate=0.05, save_steps=0, figures=False, audit=False,
            gradient_accumulation_steps=int(accumulation), dataloader_num_workers=1,
        )  # fmt: skip
        task = create_task(name, (50, 25), **options)
        trainer = PatchTaskTrainer(
            "test_convnext", args, task, data.select(range(32)), data.select(range(32, 40))
        )
        trainer.train()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

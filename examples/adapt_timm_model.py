"""Adapt a timm model to your person crops, in ten lines: its weights go on from where they are.

Example:
    python examples/adapt_timm_model.py --crops FOLDER_OR_HUB_ID --output runs/adapted
"""

import argparse

import timm

from patchit_hf import PatchTaskTrainer, TrainingArguments, load_crops

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--crops", default=None, help="folder or Hub id; rendered people if left out")
parser.add_argument("--backbone", default="resnet18")
parser.add_argument("--no-pretrained", dest="pretrained", action="store_false")
parser.add_argument("--output", default="runs/adapted")
parser.add_argument("--max-steps", type=int, default=1000)
parser.add_argument("--batch-size", type=int, default=256)


def main(argv: list[str] | None = None) -> None:
    """Adapt the model, and load what came of it."""
    options = parser.parse_args(argv)
    model = timm.create_model(options.backbone, pretrained=options.pretrained)
    args = TrainingArguments(
        output_dir=options.output,
        max_steps=options.max_steps,
        train_batch_size=options.batch_size,
    )
    trainer = PatchTaskTrainer(model, args, "position", load_crops(options.crops))
    print(trainer.train())
    adapted = timm.create_model(f"local-dir:{options.output}", pretrained=True, num_classes=7)
    print(f"{type(adapted).__name__} with a new classifier of {adapted.num_classes} classes")


if __name__ == "__main__":
    main()

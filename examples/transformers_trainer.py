"""An export in transformers: a new classifier, trained by transformers' own Trainer.

Example:
    accelerate launch -m patchit_hf.pretrain --backbone resnet18
    python examples/transformers_trainer.py --export runs/resnet18-position-people
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    Trainer,
    TrainingArguments,
)

from patchit_hf import load_crops


def main() -> None:
    """Read the command line, train, and judge on people who were not seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--export", default="runs/resnet18-position-people", help="or org/name")
    parser.add_argument("--dataset", help="labelled crops; rendered people if left out")
    parser.add_argument("--column", default="action", help="the label, a ClassLabel")
    parser.add_argument("--output", default="runs/transformers-action")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--max-steps", type=int, default=-1, help="instead of epochs")
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()

    crops = load_crops(args.dataset)
    names = crops.train.features[args.column].names
    processor = AutoImageProcessor.from_pretrained(args.export)
    model = AutoModelForImageClassification.from_pretrained(
        args.export,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )

    def prepared(rows: dict[str, list[Any]]) -> dict[str, Any]:
        """Decode pictures when they are needed."""
        pictures = [picture.convert("RGB") for picture in rows["image"]]
        inputs = processor(pictures, return_tensors="pt")
        return {"pixel_values": inputs["pixel_values"], "labels": torch.tensor(rows[args.column])}

    def figures(predicted: Any) -> dict[str, float]:
        """Return the accuracy, and that of always giving the most frequent answer."""
        logits, labels = predicted
        common = np.bincount(labels).max() / len(labels)
        return {"accuracy": float((logits.argmax(1) == labels).mean()), "most_frequent": common}

    kept = ["image", args.column]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=args.output,
            num_train_epochs=args.epochs,
            max_steps=args.max_steps,
            per_device_train_batch_size=args.batch_size,
            learning_rate=1e-3,
            weight_decay=0.05,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=crops.train.select_columns(kept).with_transform(prepared),
        eval_dataset=crops.held_out.select_columns(kept).with_transform(prepared),
        compute_metrics=figures,
    )
    trainer.train()
    results = trainer.evaluate()
    trainer.save_metrics("eval", results)
    trainer.save_model()  # with how pictures are prepared
    print(
        f"accuracy {results['eval_accuracy']:.1%}; "
        f"the most frequent answer alone: {results['eval_most_frequent']:.1%}"
    )
    print(f'load it: AutoModelForImageClassification.from_pretrained("{args.output}")')


if __name__ == "__main__":
    main()

"""An export in a plain PyTorch loop: attributes, with nothing of this package but the data.

Each yes/no column is an output; where a label is missing (-1), nothing is learnt and nothing is
scored.

Example:
    accelerate launch -m patchit_hf.pretrain --backbone resnet18
    python examples/plain_pytorch.py --export runs/resnet18-position-people
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_model
from sklearn.metrics import average_precision_score
from torch.utils.data import DataLoader, Dataset

from patchit_hf import load_crops


class Attributes(Dataset):
    """Pictures as the network sees them, and their labels: 1, 0, or -1 where nobody knows."""

    def __init__(self, crops, columns, transform) -> None:
        self.crops, self.columns, self.transform = crops, columns, transform

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index):
        row = self.crops[index]
        labels = torch.tensor([float(row[name]) for name in self.columns])
        return self.transform(row["image"].convert("RGB")), labels


def mean_ap(model, loader) -> tuple[float, float]:
    """Return the mean average precision of the attributes, and what guessing gives."""
    model.eval()
    with torch.inference_mode():
        parts = [(model(x), y) for x, y in loader]
    scores, truth = (torch.cat(part) for part in zip(*parts, strict=True))
    found, chance = [], []
    for score, label in zip(scores.T, truth.T, strict=True):
        known = label >= 0
        if 0 < label[known].mean() < 1:
            found.append(average_precision_score(label[known], score[known]))
            chance.append(float(label[known].mean()))
    return sum(found) / len(found), sum(chance) / len(chance)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--export", default="runs/resnet18-position-people")
    parser.add_argument("--dataset", help="labelled crops; rendered people if left out")
    parser.add_argument("--columns", default="hat,glasses,long_hair,long_sleeves,backpack")
    parser.add_argument("--output", type=Path, default=Path("runs/plain.safetensors"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-steps", type=int, default=10**9, help="of an epoch")
    args = parser.parse_args()

    columns = args.columns.split(",")
    source = f"local-dir:{args.export}"  # or hf-hub:org/name
    model = timm.create_model(source, pretrained=True, num_classes=len(columns))
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    data = load_crops(args.dataset)
    crops = Attributes(data.train, columns, transform)
    loader = DataLoader(crops, batch_size=32, shuffle=True, drop_last=True)
    held_out = DataLoader(Attributes(data.held_out, columns, transform), batch_size=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    for epoch in range(args.epochs):
        model.train()
        for step, (x, y) in zip(range(args.max_steps), loader, strict=False):
            loss = F.binary_cross_entropy_with_logits(model(x), y.clamp(min=0), weight=y >= 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(f"\repoch {epoch + 1}, step {step + 1}: loss {loss:.3f}", end="", flush=True)
        found, chance = mean_ap(model, held_out)
        print(f"\nepoch {epoch + 1}: mean AP {found:.1%}, guessing {chance:.1%}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_model(model, str(args.output))
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()

"""Retrieval of persons by frozen features, without any label.

    python benchmarks/frozen_retrieval.py runs/mine --dataset path/to/peta --split test \
        --cameras path/to/viper --output retrieval.json

Features of whole crops are averaged over the map, standardised by those of the training crops, and
ranked by cosine. Batch-norm statistics are estimated on the training crops first. Each crop of the
split searches all others for its person. In ``--cameras``, crops of the first camera search those
of the second. The source ``colours`` is no network: mean and deviation of the colours in eight
stripes, which says how far the clothes' colours alone get.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import datasets
import torch
from claim_figures import known
from torch import Tensor

from patchit_hf.data.canvas import parse_canvas
from patchit_hf.data.decoding import DecodeArguments
from patchit_hf.data.source import open_split
from patchit_hf.downstream.augment import Geometry
from patchit_hf.evaluate.features import open_extractor, reestimated
from patchit_hf.finetune.labelled import Labelled, open_crops_of
from patchit_hf.metrics.retrieval import Embeddings, retrieve
from patchit_hf.models.embed import Extractor, sampled

COLOURS = "colours"


def numbered(persons: list[Any]) -> Tensor:
    """Return a number from 1 for each person, -1 where it is unknown: int64 ``[N]``."""
    names = {
        name: number for number, name in enumerate(sorted({p for p in persons if known(p)}), 1)
    }
    return torch.tensor([names.get(person, -1) for person in persons])


def same_person(features: Tensor, persons: list[Any]) -> dict[str, float]:
    """Return how well each image finds the others of its person, whatever the camera.

    Args:
        features: ``[N, C]``.
        persons: the person of each.
    """
    unknown = torch.full((len(features),), -1)
    images = Embeddings(features, numbered(persons), unknown)
    found = retrieve(images, images, same_rows=True)
    return {**found.summary(), "queries": len(found.queries)}


def across_cameras(features: Tensor, persons: list[Any], cameras: list[int]) -> dict[str, float]:
    """Return how well the images of the first camera find their person in the second.

    Args:
        features: ``[N, C]``.
        persons: the person of each.
        cameras: the camera of each; the two lowest numbers are used.
    """
    where, ids = torch.tensor(cameras), numbered(persons)
    first, second = sorted(set(cameras))[:2]
    sides = [where == first, where == second]
    query, gallery = (Embeddings(features[s], ids[s], where[s]) for s in sides)
    found = retrieve(query, gallery)
    return {**found.summary(), "queries": len(found.queries)}


def same_source(features: Tensor, sources: list[Any], neighbours: int = 10) -> dict[str, float]:
    """Return how often most of the nearest crops are of a crop's own source.

    Args:
        features: ``[N, C]``.
        sources: the source of each, and ``None`` where it is unknown.
        neighbours: how many are asked; the most frequent source is the answer.
    """
    unit = torch.nn.functional.normalize(features, dim=1)
    numbers = torch.tensor([sorted(set(sources)).index(source) for source in sources])
    right = []
    for rows in torch.arange(len(unit)).split(256):
        cosines = unit[rows] @ unit.T
        cosines[torch.arange(len(rows)), rows] = -2
        nearest = numbers[cosines.topk(neighbours, dim=1).indices]
        right.append(nearest.mode(1).values == numbers[rows])
    most = numbers.bincount().max().item() / len(numbers)
    return {"knn": torch.cat(right).float().mean().item(), "most_frequent": most}


def colours(crops: Tensor, count: int = 8) -> Tensor:
    """Return mean and deviation of each channel in horizontal stripes: ``[N, 6 * count]``.

    Args:
        crops: uint8 ``[N, 3, H, W]``.
        count: number of stripes.
    """
    stripes = [stripe.float().flatten(2) for stripe in crops.tensor_split(count, dim=2)]
    return torch.cat([part for s in stripes for part in (s.mean(2), s.std(2))], dim=1)


class Frozen:
    """Standardised features of whole crops.

    Args:
        extractor: the frozen backbone; its batch-norm statistics are estimated on these crops.
            None for colours alone.
        train: the training crops.
    """

    def __init__(self, extractor: Extractor | None, train: Labelled) -> None:
        self.extractor = None if extractor is None else reestimated(extractor, train)
        features = self._features(train.select(sampled(len(train))))
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-6

    def __call__(self, crops: Labelled) -> Tensor:
        """Return features ``[N, C]``."""
        return (self._features(crops) - self.mean) / self.deviation

    def _features(self, crops: Labelled) -> Tensor:
        parts = (part for part, _ in crops.batches(64))
        if self.extractor is None:
            return torch.cat([colours(part) for part in parts])
        return self.extractor(parts)


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Return the metrics that the arguments ask for."""
    size, extractor = parse_canvas(args.input_size), None
    if args.source != COLOURS:
        extractor = open_extractor(args.source, args.backbone, size)
    canvas = Geometry.of(size).canvas
    decode = DecodeArguments()

    def opened(dataset: str, split: str) -> tuple[Any, Labelled]:
        found, _ = open_split(dataset, split)
        return found, open_crops_of(found, canvas, decode, f"{dataset} {split}")

    frozen = Frozen(extractor, opened(args.dataset, "train")[1])
    split, crops = opened(args.dataset, args.split)
    features, ids = frozen(crops), split["person_id"][:]
    result = {f"person_{key}": value for key, value in same_person(features, ids).items()}
    if args.source_column in split.column_names:
        told = same_source(features, split[args.source_column][:])
        result |= {f"source_{key}": value for key, value in told.items()}
    cameras = split["camera"][:] if "camera" in split.column_names else []
    seen = [row for row, camera in enumerate(cameras) if camera >= 0]
    if len({cameras[row] for row in seen}) > 1:
        found = across_cameras(
            features[seen], [ids[row] for row in seen], [cameras[row] for row in seen]
        )
        result |= {f"other_camera_{key}": value for key, value in found.items()}
    if args.cameras:
        split, crops = opened(args.cameras, args.cameras_split)
        ids, cameras = split["person_id"][:], split["camera"][:]
        found = across_cameras(frozen(crops), ids, cameras)
        result |= {f"cameras_{key}": value for key, value in found.items()}
    return result


def main() -> None:
    """Measure, and write the metrics as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", help="initial weights, as --init of finetuning, or colours")
    parser.add_argument("--backbone", help="timm's name, where the source does not bring one")
    parser.add_argument("--dataset", required=True, help="crops with train, and with --split")
    parser.add_argument("--split", default="test")
    parser.add_argument("--cameras", help="crops of persons that two cameras saw")
    parser.add_argument("--cameras-split", default="test")
    parser.add_argument("--source-column", default="subset", help="column of the crops' sources")
    parser.add_argument("--input-size", default="128x64")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    datasets.disable_progress_bars()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(measure(args), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

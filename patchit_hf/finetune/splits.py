"""The labelled crops of a finetuning: those it trains on, and those it is validated on."""

from __future__ import annotations

from typing import Any

from patchit_hf.data.bad import BadImages
from patchit_hf.data.content_hashes import contents_of_rows, contents_of_targets
from patchit_hf.data.contents import Contents
from patchit_hf.finetune.labelled import Labelled
from patchit_hf.training.run_data import RunData


class LabelledSplits(RunData):
    """The opened crops of a finetuning.

    Args:
        train: the training crops.
        validation: the crops that the best weights are chosen on, or None.
    """

    def __init__(self, train: Labelled, validation: Labelled | None) -> None:
        self.train, self.validation = train, validation

    def described(self) -> dict[str, Any]:
        """Return fingerprint and numbers of crops."""
        return {
            "fingerprint": self.train.store.fingerprint,
            "train_crops": len(self.train),
            "eval_crops": len(self.validation or ()),
        }

    @property
    def known_as(self) -> tuple[str, ...]:
        """Further fingerprints of the same crops."""
        return self.train.store.known_as

    def contents(self) -> dict[str, Contents]:
        """Return what images and labels of each split hold."""
        parts: dict[str, Contents] = {}
        for part, data in (("train", self.train), ("validation", self.validation)):
            if data is not None and data.store.rows is not None:
                parts[part] = contents_of_rows(data.store.rows, data.split_rows.tolist())
                parts[f"labels of {part}"] = contents_of_targets(data.targets)
        return parts

    def bad_images(self) -> tuple[BadImages, ...]:
        """Return the bad images of each split."""
        return tuple(p.store.bad for p in (self.train, self.validation) if p is not None)

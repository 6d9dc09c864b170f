"""The crops of a pretraining: those it trains on, and those that an evaluation asks about."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from patchit_hf.common.draws import epoch_order
from patchit_hf.data.bad import BadImages
from patchit_hf.data.content_hashes import contents_of_rows
from patchit_hf.data.contents import Contents
from patchit_hf.data.stream import StreamedCrops
from patchit_hf.data.training_set import HeldOut, Source, num_crops
from patchit_hf.training.run_data import RunData

TOGETHER = 128  # crops, where all are shown to a head


class PretrainData(RunData):
    """The opened crops of a pretraining.

    Args:
        name: name of the data.
        source: the training crops.
        held_out: the crops that an evaluation asks about, or None.
        files: of a stream, what its files hold.
    """

    def __init__(
        self, name: str, source: Source, held_out: HeldOut | None, files: Contents | None
    ) -> None:
        self.name, self.source, self.held_out, self.files = name, source, held_out, files
        self.size = num_crops(source)

    def described(self) -> dict[str, Any]:
        """Return fingerprint and numbers of crops."""
        return {
            "fingerprint": self.source.fingerprint,
            "train_crops": None if isinstance(self.source, StreamedCrops) else len(self.source),
            "eval_crops": len(self.held_out or ()),
        }

    @property
    def known_as(self) -> tuple[str, ...]:
        """Further fingerprints of the same crops."""
        return self.source.known_as

    def contents(self) -> dict[str, Contents]:
        """Return what the training crops and the held-out ones hold."""
        parts = {}
        if isinstance(self.source, StreamedCrops):
            parts = {} if self.files is None else {"the stream": self.files}
        elif self.source.rows is not None:
            parts = {"train": contents_of_rows(self.source.rows, name=self.name, main=True)}
        if self.held_out is not None and self.held_out.contents is not None:
            parts["validation"] = self.held_out.contents
        return parts

    def bad_images(self) -> tuple[BadImages, ...]:
        """Return the bad images of the training crops and the held-out ones."""
        return (self.source.bad, *([] if self.held_out is None else [self.held_out.bad]))

    def every_crop(self, seed: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each training crop once, in the order of the first epoch; none of a stream.

        Args:
            seed: the run's.
            device: where the crops are wanted.

        Yields:
            Rows int64 ``[N]``, and their crops uint8 ``[N, 3, H, W]``.
        """
        if isinstance(self.source, StreamedCrops):
            return
        plan = epoch_order(seed, 0, self.size).tensor_split(math.ceil(self.size / TOGETHER))
        for rows, crops in zip(plan, self.source.batches(plan), strict=True):
            yield rows, crops.to(device)

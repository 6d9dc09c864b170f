"""The data of a run, as its record and its checkpoints know them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from patchit_hf.data.bad import BadImages
from patchit_hf.data.contents import Contents


class RunData(ABC):
    """What a run trains on, and the held-out part that it is evaluated on."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Return ``fingerprint``, ``train_crops`` and ``eval_crops``, as the record says them."""

    @property
    @abstractmethod
    def known_as(self) -> tuple[str, ...]:
        """Further fingerprints of the same crops, as other ways to read them have."""

    @abstractmethod
    def contents(self) -> dict[str, Contents]:
        """Return what each part holds; asked for on the main process."""

    @abstractmethod
    def bad_images(self) -> tuple[BadImages, ...]:
        """Return the bad images of each part."""

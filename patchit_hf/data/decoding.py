"""How images become crops: which column, how they fit the canvas, what a bad one means."""

from __future__ import annotations

from dataclasses import dataclass

from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.data.bad import ON_BAD
from patchit_hf.data.canvas import FITS


@dataclass(frozen=True, kw_only=True)
class DecodeArguments(Arguments):
    """How crops are read and decoded; see each field's help.

    Raises:
        InputError: for a value that is out of range, named by its flag.
    """

    image_column: str | None = arg(
        None, "--image-column", "data", "image column; needed only where there are several"
    )
    fit: str = arg(
        "squash",
        "--fit",
        "data",
        "how a crop gets to the canvas: stretched, or covering it with its aspect ratio kept",
        choices=FITS,
    )
    crop_cache_gb: float = arg(
        8.0,
        "--crop-cache-gb",
        "data",
        "decoded crops kept on disk up to this size; 0 decodes every time",
        identity=False,
    )
    dataloader_num_workers: int = arg(
        2, "--workers", "data", "threads or processes that decode", identity=False
    )
    on_bad_image: str = arg(
        "raise",
        "--on-bad-image",
        "data",
        "an image that is damaged, empty, huge or tiny: stop, leave it out, or take another crop "
        "in its place; the run's bad_images.jsonl names each",
        identity=False,
        choices=ON_BAD,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("dataloader_num_workers", 0)
        self._check_number("crop_cache_gb")

    @property
    def on_bad_held_out(self) -> str:
        """What is done about a bad image among crops that are judged: nothing may replace it."""
        return "raise" if self.on_bad_image == "raise" else "skip"

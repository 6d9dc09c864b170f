"""``DecodeArguments``: how images are read and decoded."""

from __future__ import annotations

from dataclasses import dataclass

from patchit_hf.common.arguments import Arguments, arg
from patchit_hf.data.choices import FITS, ON_BAD


@dataclass(frozen=True, kw_only=True)
class DecodeArguments(Arguments):
    """How crops are read and decoded; see each field's help.

    Raises:
        InputError: for a value out of range; the message names its flag.

    Example:
        >>> DecodeArguments(fit="cover", on_bad_image="replace").on_bad_held_out
        'skip'
    """

    image_column: str | None = arg(
        None, "--image-column", "data", "image column; needed only if there are several"
    )
    fit: str = arg(
        "squash",
        "--fit",
        "data",
        "how a crop is brought to the canvas: squash stretches it, cover keeps its aspect ratio "
        "and trims what sticks out",
        choices=FITS,
    )
    allow_urls: bool = arg(
        False,
        "--allow-urls",
        "data",
        "also read images that rows of the data set name instead of holding them: by an "
        "address, or as a file outside of the data set's folder",
        identity=False,
    )
    crop_cache_gb: float = arg(
        8.0,
        "--crop-cache-gb",
        "data",
        "largest cache of decoded crops on disk, in GB; a larger data set, or any with 0, is "
        "decoded each time",
        identity=False,
    )
    verify_cache: bool = arg(
        False,
        "--verify",
        "data",
        "compare every cached crop with its checksum before the start; otherwise each is compared "
        "when it is read for the first time",
        identity=False,
    )
    dataloader_num_workers: int = arg(
        2, "--workers", "data", "threads or processes that decode", identity=False
    )
    on_bad_image: str = arg(
        "raise",
        "--on-bad-image",
        "data",
        "what to do with an image that is damaged, empty, huge or tiny: stop, leave it out, or "
        "use another crop instead; bad_images.jsonl in the run's folder lists each",
        identity=False,
        choices=ON_BAD,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("dataloader_num_workers", 0)
        self._check_number("crop_cache_gb")

    @property
    def on_bad_held_out(self) -> str:
        """Policy for bad images among held-out crops, where no image may be replaced."""
        return "raise" if self.on_bad_image == "raise" else "skip"

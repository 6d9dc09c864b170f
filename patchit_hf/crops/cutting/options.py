"""``CropOptions``: how a box becomes a crop, which boxes are kept, and how they are split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

from patchit_hf.common.arguments import arg
from patchit_hf.common.errors import InputError
from patchit_hf.crops.choices import OUTSIDE
from patchit_hf.data.choices import parse_canvas

SHARES = ("min_visible", "max_overlap", "validation", "test")
FULL = "full-bodies"
PRESETS: dict[str, dict[str, float | bool]] = {
    FULL: {"min_height": 96.0, "max_overlap": 0.5, "keep_cut": False},
    "all": {"min_height": 50.0, "max_overlap": 1.0, "keep_cut": True},
}  # all: the defaults of version 0.1
PRESET_REASONS = {"min_height": "too short", "max_overlap": "covered", "keep_cut": "cut"}
NUMBERS = ("context", "min_height", "max_height", "min_aspect", "max_aspect", "min_sharpness")


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """How boxes become crops; see each field's help, or ``patchit crops --help``.

    Raises:
        InputError: for a value out of range; the message names its flag.

    Example:
        >>> from patchit_hf.crops import CropOptions
        >>> options = CropOptions(canvas="256x128", min_height=100, image_format="png")
        >>> options.size
        (256, 128)
        >>> CropOptions().min_height, CropOptions(preset="all", keep_cut=False).min_height
        (96.0, 50.0)
    """

    canvas: str = arg("200x100", "--canvas", "crops", "size of a crop, HEIGHTxWIDTH in pixels")
    context: float = arg(
        0.0, "--context", "crops", "margin above and below a box, as a fraction of its height"
    )
    outside: str = arg(
        "shift",
        "--outside",
        "crops",
        "what to do with a crop that would leave the frame: move it inwards, make it smaller, or "
        "drop it; crops are never padded",
        choices=OUTSIDE,
    )
    image_format: str = arg(
        "jpeg", "--image-format", "crops", "file format of the crops", choices=("jpeg", "png")
    )
    quality: int = arg(
        95, "--quality", "crops", "JPEG quality, 1 to 100; without chroma subsampling"
    )
    exif: str = arg(
        "shown",
        "--exif",
        "images",
        "whether boxes refer to an image as it is shown (rotated by its EXIF tag) or as it is "
        "stored",
        choices=("shown", "stored"),
    )
    max_pixels: int = arg(
        100_000_000,
        "--max-pixels",
        "images",
        "most pixels of an image; a larger one is bad and not decoded",
    )
    preset: str = arg(
        FULL,
        "--preset",
        "filters",
        "full-bodies leaves out small, cut and overlapping people, of whom a crop shows a part; "
        "all keeps them. It sets the defaults of --min-height, --max-overlap and --keep-cut",
        choices=tuple(PRESETS),
    )
    classes: str | None = arg(
        None,
        "--classes",
        "filters",
        "classes that mean a person, by name or number, separated by commas; if left out, those "
        "named person or pedestrian, or the number that the format uses",
    )
    min_score: float = arg(-math.inf, "--min-score", "filters", "lowest score of a box")
    min_height: float = arg(
        None,
        "--min-height",
        "filters",
        "smallest height of a box, in pixels (default: 96, with --preset all 50)",
    )
    max_height: float = arg(math.inf, "--max-height", "filters", "largest height, in pixels")
    min_aspect: float = arg(
        0.15, "--min-aspect", "filters", "smallest ratio of a box's width to its height"
    )
    max_aspect: float = arg(
        1.0, "--max-aspect", "filters", "largest ratio of a box's width to its height"
    )
    min_visible: float = arg(
        0.6, "--min-visible", "filters", "smallest fraction of a box inside the frame"
    )
    max_overlap: float = arg(
        None,
        "--max-overlap",
        "filters",
        "largest fraction of a box that one other person's box may cover (default: 0.5, with "
        "--preset all 1)",
    )
    keep_cut: bool = arg(
        None,
        "--keep-cut",
        "filters",
        "keep boxes that touch the frame's edge, where people are cut off (default: no, with "
        "--preset all yes)",
    )
    min_sharpness: float = arg(
        0.0,
        "--min-sharpness",
        "filters",
        "lowest sharpness, the variance of the crop's Laplacian (column sharpness)",
    )
    every: int = arg(1, "--every", "filters", "use every k-th frame of a video")
    first_frame: int | None = arg(
        None,
        "--first-frame",
        "images",
        "number of a video's first frame in the boxes: 0 or 1; if left out, 1 for MOT, else 0; "
        "for a folder of frames, counts its files, which else go by the numbers in their names",
    )
    keep_every: int = arg(1, "--keep-every", "filters", "keep every k-th box of a track")
    check_boxes: bool = arg(
        True,
        "--check-boxes",
        "filters",
        "stop if the boxes seem to be in another format than assumed",
    )
    source: str = arg(
        "auto",
        "--source",
        "splits",
        "unit that is never divided between splits: image, folder, or a regular expression for "
        r"image names whose first group is the source, such as cam(\d+); auto uses the videos, "
        "sequences or cameras of the boxes' file, else folders, else images",
    )
    validation: float = arg(0.1, "--validation", "splits", "fraction of the boxes for validation")
    test: float = arg(0.0, "--test", "splits", "fraction of the boxes for the test split")
    shard_size: int = arg(5000, "--shard-size", "output", "crops per parquet file")

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise self._error("preset", f"one of {', '.join(PRESETS)}")
        for name, value in PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        parse_canvas(self.canvas)
        if self.first_frame not in (None, 0, 1):
            raise self._error("first_frame", "0 or 1")
        for name in ("every", "keep_every", "shard_size", "max_pixels", "quality"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1 or (name == "quality" and value > 100):
                raise self._error(name, "a whole number from 1" + " to 100" * (name == "quality"))
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise self._error(name, "a number from 0 to 1")
        for name in NUMBERS:
            if not getattr(self, name) >= 0:
                raise self._error(name, "a number of at least 0")
        if math.isnan(self.min_score):
            raise self._error("min_score", "a number")
        if self.min_height < 8:
            raise self._error("min_height", "a number of at least 8")
        for low, high in (("min_height", "max_height"), ("min_aspect", "max_aspect")):
            if getattr(self, low) > getattr(self, high):
                raise self._error(low, f"at most {self._flag(high)} {getattr(self, high):g}")
        if self.validation + self.test >= 1:
            raise self._error("validation", "less than 1 together with --test")
        for item in dataclasses.fields(self):
            choices = item.metadata["choices"]
            if choices and getattr(self, item.name) not in choices:
                raise self._error(item.name, f"one of {', '.join(choices)}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a crop, in pixels."""
        return parse_canvas(self.canvas)

    def hint(self, reasons: Iterable[str]) -> str:
        """Return how to keep what the preset dropped; empty if it dropped nothing.

        Args:
            reasons: why boxes were dropped, as the report spells it.
        """
        own = {PRESET_REASONS[k] for k, v in PRESETS[FULL].items() if getattr(self, k) == v}
        if self.preset != FULL or not own & set(reasons):
            return ""
        return "full bodies are kept; --preset all keeps small, cut and overlapping people too"

    def stated(self) -> dict[str, object]:
        """Return all fields for JSON, with infinite numbers as None.

        The preset is not among them, only what follows from it: ``--preset all`` goes on with a
        data set that was begun when these values were the defaults.
        """
        values = [item for item in dataclasses.asdict(self).items() if item[0] != "preset"]
        return {
            key: None if isinstance(value, float) and math.isinf(value) else value
            for key, value in values
        }

    def _flag(self, name: str) -> str:
        return str(next(f.metadata["flag"] for f in dataclasses.fields(self) if f.name == name))

    def _error(self, name: str, allowed: str) -> InputError:
        return InputError(f"{self._flag(name)} {getattr(self, name)!r}: must be {allowed}")

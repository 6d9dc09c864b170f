"""How a box becomes a crop: flat, frozen, checked where it is made."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from patchit_hf.common.arguments import arg
from patchit_hf.common.errors import InputError
from patchit_hf.crops.boxes import OUTSIDE
from patchit_hf.data.canvas import parse_canvas

SHARES = ("min_visible", "max_overlap", "validation", "test")
NUMBERS = ("context", "min_height", "max_height", "min_aspect", "max_aspect", "min_sharpness")


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """What is cut and kept; see each field's help.

    Raises:
        InputError: for a value that is out of range, named by its flag.

    Example:
        >>> CropOptions(canvas="256x128", min_height=80).size
        (256, 128)
    """

    canvas: str = arg("200x100", "--canvas", "crops", "size of a crop in pixels, H x W")
    context: float = arg(
        0.0, "--context", "crops", "margin above and below a box, as a share of its height"
    )
    outside: str = arg(
        "shift",
        "--outside",
        "crops",
        "a crop that would leave the frame is moved inwards, made smaller, or dropped; none is "
        "ever padded",
        choices=OUTSIDE,
    )
    image_format: str = arg(
        "jpeg", "--image-format", "crops", "how crops are stored", choices=("jpeg", "png")
    )
    quality: int = arg(95, "--quality", "crops", "of JPEG, 1 to 100; colours keep full resolution")
    exif: str = arg(
        "shown",
        "--exif",
        "pictures",
        "whether boxes refer to a picture as it is shown, turned as its EXIF tag says, or as it "
        "is stored",
        choices=("shown", "stored"),
    )
    max_pixels: int = arg(
        100_000_000, "--max-pixels", "pictures", "a larger picture is bad, and not decoded"
    )
    classes: str | None = arg(
        None,
        "--classes",
        "filters",
        "names or numbers of the classes that are persons, with commas between; known by name "
        "(person, pedestrian) or by the format's number if left out",
    )
    min_score: float = arg(-math.inf, "--min-score", "filters", "smallest score of a box")
    min_height: float = arg(50.0, "--min-height", "filters", "smallest height of a box, in pixels")
    max_height: float = arg(math.inf, "--max-height", "filters", "largest height, in pixels")
    min_aspect: float = arg(
        0.15, "--min-aspect", "filters", "smallest width of a box by its height"
    )
    max_aspect: float = arg(1.0, "--max-aspect", "filters", "largest width of a box by its height")
    min_visible: float = arg(
        0.6, "--min-visible", "filters", "smallest share of a box inside the frame"
    )
    max_overlap: float = arg(
        1.0,
        "--max-overlap",
        "filters",
        "largest share of a box that one other person's box may cover",
    )
    keep_cut: bool = arg(
        True,
        "--keep-cut",
        "filters",
        "keep boxes that reach the frame's edge, where persons are cut",
    )
    min_sharpness: float = arg(
        0.0,
        "--min-sharpness",
        "filters",
        "smallest sharpness: the variance of the crop's Laplacian (column sharpness)",
    )
    every: int = arg(1, "--every", "filters", "of videos, take every k-th frame")
    first_frame: int | None = arg(
        None,
        "--first-frame",
        "pictures",
        "number that the boxes give the first frame of a video; 1 for MOT, else 0",
    )
    keep_every: int = arg(1, "--keep-every", "filters", "keep every k-th box along a track")
    check_boxes: bool = arg(
        True, "--check-boxes", "filters", "stop where boxes seem to be in another format"
    )
    source: str = arg(
        "auto",
        "--source",
        "splits",
        "what no two splits share: image, folder, or a regular expression on a picture's name "
        r"whose first group is the source, such as cam(\d+); auto takes the file's videos, "
        "sequences or cameras, else folders, else images",
    )
    validation: float = arg(0.1, "--validation", "splits", "share of the boxes for validation")
    test: float = arg(0.0, "--test", "splits", "share of the boxes for a test")
    shard_size: int = arg(5000, "--shard-size", "output", "crops of a parquet file")

    def __post_init__(self) -> None:
        parse_canvas(self.canvas)
        if self.first_frame not in (None, 0, 1):
            raise self._error("first_frame", "0 or 1")
        for name in ("every", "keep_every", "shard_size", "max_pixels", "quality"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1 or (name == "quality" and value > 100):
                raise self._error(name, "a whole number from 1" + " to 100" * (name == "quality"))
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise self._error(name, "a share from 0 to 1")
        for name in NUMBERS:
            if not getattr(self, name) >= 0:
                raise self._error(name, "a number from 0")
        if math.isnan(self.min_score):
            raise self._error("min_score", "a number")
        if self.min_height < 8:
            raise self._error("min_height", "a number from 8")
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
        """Height and width of a crop."""
        return parse_canvas(self.canvas)

    def stated(self) -> dict[str, object]:
        """Return all fields as JSON has them: an unlimited number as None."""
        values = dataclasses.asdict(self).items()
        return {
            key: None if isinstance(value, float) and math.isinf(value) else value
            for key, value in values
        }

    def _flag(self, name: str) -> str:
        return str(next(f.metadata["flag"] for f in dataclasses.fields(self) if f.name == name))

    def _error(self, name: str, allowed: str) -> InputError:
        return InputError(f"{self._flag(name)} {getattr(self, name)!r}: must be {allowed}")

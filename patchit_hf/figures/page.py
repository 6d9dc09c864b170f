"""The look that all figures share: a page whose parts are placed, and painted, by pixels.

Dark ink on light paper: darker means more. Nothing is encoded by hue alone, so every figure can be
read in black and white. Heat grows darker and has its number written in it, lines have different
dashes and carry their names, and wrong answers have a thick frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

Array = npt.NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")

DPI = 125
WIDTH = 1000  # width of a page, in pixels
MARGIN = 24
HEADER = 84  # height of title and note, in pixels
KEY = 58  # height of a colour scale alone
COLUMN = 471  # width of a page in a paper's column: 3.35 inches, once its letters are of 8 points
TITLE, TEXT, SMALL = 11.5, 9.0, 7.5  # font sizes, in points
STYLES = ("report", "paper")
INK, SOFT, FAINT = "#1b1b1b", "#5a5a5a", "#a8a8a8"
BLUE, NAVY = "#4477b4", "#06204a"
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

# White to navy, evenly darker in CIE lightness: the same for any colour vision, and in grey.
HEAT = LinearSegmentedColormap.from_list(
    "patchit_heat",
    [
        (0, "#ffffff"),
        (0.18, "#c8d9ee"),
        (0.4, "#86a9d8"),
        (0.62, BLUE),
        (0.82, "#1b4a86"),
        (1, NAVY),
    ],
)

_STYLE = {"font.size": TEXT, "text.color": INK}


@contextmanager
def look() -> Iterator[None]:
    """Use this look regardless of the user's matplotlib settings, which are restored afterwards."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


_narrow: ContextVar[bool] = ContextVar("narrow", default=False)


def page_width() -> int:
    """Return the width of a page in the style that is drawn in, in pixels."""
    return COLUMN if _narrow.get() else WIDTH


@contextmanager
def style(name: str) -> Iterator[None]:
    """Draw in a style: ``report``, or ``paper``: as wide as a column, and without a title.

    Args:
        name: one of ``STYLES``.

    Example:
        >>> with style("paper"):
        ...     page_width()
        471
    """
    token = _narrow.set(name == "paper")
    try:
        yield
    finally:
        _narrow.reset(token)


def with_look(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw with this look."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with look():
            return draw(*args, **kwargs)

    return drawn


class Page:
    """A figure of fixed width; its unit is the pixel, with the origin at the left below the header.

    Images and frames are painted pixel by pixel, which is sharp and fast; matplotlib draws text and
    curves.

    Args:
        height: height below the header, in pixels.
        title: what the figure shows.
        note: how to read it; one or two lines. In a paper, the caption says both.
        key: whether a colour scale follows.

    Example:
        >>> page = Page(100, "A white square", "100x100 px")
        >>> panel = page.picture(np.ones((1, 1, 3)), MARGIN, 0, 100, (10, 10))
        >>> page.finish().get_size_inches() * DPI
        array([1000.,  208.])
    """

    def __init__(self, height: float, title: str, note: str = "", *, key: bool = False) -> None:
        self.titled = not _narrow.get()
        self.header = HEADER if self.titled else KEY * key + 14
        self.width, self.height = page_width(), round(height) + self.header + MARGIN
        size = (self.width / DPI, self.height / DPI)
        self.figure = Figure(figsize=size, dpi=DPI, facecolor="white")
        self.sheet = self.figure.add_axes((0, 0, 1, 1))
        self.sheet.set_axis_off()
        self.paper = np.ones((self.height, self.width, 3))
        if self.titled:
            self.write(MARGIN, 14 - HEADER, title, TITLE, fontweight="bold", va="top")
            self.write(MARGIN, 42 - HEADER, note, SMALL, color=SOFT, va="top", linespacing=1.3)

    def finish(self) -> Figure:
        """Put the painted pixels behind the text and return the figure."""
        extent = (0, self.width, self.height - self.header, -self.header)
        if (self.paper < 1).any():
            pixels = np.round(np.clip(self.paper, 0, 1) * 255).astype(np.uint8)
            image = self.sheet.imshow(pixels, extent=extent, interpolation="nearest", zorder=-1)
            image.axes.set_aspect("auto")
        self.sheet.axis(extent)
        return self.figure

    def write(self, x: float, y: float, text: str, size: float = TEXT, **options: Any) -> None:
        """Write text at a position."""
        self.sheet.text(x, y, text, fontsize=size, **options)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Return axes that fill a rectangle."""
        bottom = self.height - self.header - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def part(self, left: float, top: float, right: float, bottom: float) -> Array:
        """Return the pixels of a rectangle, to be painted on."""
        x0, y0, x1, y1 = (round(v) for v in (left, top + self.header, right, bottom + self.header))
        part: Array = self.paper[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        return part

    def picture(
        self, image: Array, left: float, top: float, width: float, canvas: tuple[int, int]
    ) -> Panel:
        """Paint an image of any resolution, ``[h, w, 3]`` in [0, 1].

        Args:
            image: the image.
            left: left edge of its panel.
            top: top edge of its panel.
            width: width of its panel; the height follows from the canvas.
            canvas: height and width of the canvas that the image shows.

        Returns:
            The image's panel, whose unit is the canvas' pixel.
        """
        panel = Panel(self, round(left), round(top), width / canvas[1])
        panel.paste(image, np.array([0, 0, canvas[1], canvas[0]]))
        return panel

    def heat_key(self, ticks: list[float], norm: Any, name: str) -> None:
        """Draw the colour scale at the top right, evenly by value."""
        width, height = 250, 12
        left = self.width - MARGIN - 12 - width
        top = (34 if self.titled else 28) - self.header
        self.write(left, top - 6, name, SMALL, color=SOFT, va="bottom")
        box = (left, top, left + width, top + height)
        self.part(*box)[:] = HEAT(norm(np.linspace(0, 1, width)))[None, :, :3]
        paint_frame(self, box, 1, FAINT)
        for tick in ticks:
            x = left + tick * (width - 1)
            self.part(x, top + height, x + 1, top + height + 4)[:] = to_rgb(SOFT)
            self.write(x, top + height + 7, f"{tick:.0%}", SMALL, ha="center", va="top")


@dataclass(frozen=True)
class Panel:
    """The position of an image on a page; boxes are xyxy in pixels of its canvas.

    Attributes:
        page: the page.
        left: left edge.
        top: top edge.
        scale: pixels of the page per pixel of the canvas.
    """

    page: Page
    left: float
    top: float
    scale: float

    def place(self, box: Array) -> tuple[float, float, float, float]:
        """Return a box in pixels of the page."""
        x0, y0, x1, y1 = (float(v) * self.scale for v in box)
        return self.left + x0, self.top + y0, self.left + x1, self.top + y1

    def paste(self, image: Array, box: Array) -> None:
        """Paint an image ``[h, w, 3]`` in [0, 1] into a box."""
        part = self.page.part(*self.place(box))
        part[:] = resized(image, part.shape[0], part.shape[1])

    def frame(self, box: Array, width: int = 1, color: str = SOFT, halo: int = 0) -> None:
        """Paint a frame inside a box, with ``halo`` white pixels on either side of it."""
        place = np.array(self.place(box))
        inward = np.array([1, 1, -1, -1])
        if halo:
            paint_frame(self.page, place - halo * inward, width + 2 * halo, "white")
        paint_frame(self.page, place, width, color)

    def hatch(self, box: Array) -> None:
        """Paint light diagonal lines into a box."""
        part = self.page.part(*self.place(box))
        y, x = np.indices(part.shape[:2])
        part[(x + y) % 10 == 0] = to_rgb(FAINT)

    def label(self, box: Array, text: str, size: float = SMALL, **options: Any) -> None:
        """Write text in the middle of a box."""
        x0, y0, x1, y1 = self.place(box)
        centre = {"ha": "center", "va": "center_baseline"}
        self.page.write((x0 + x1) / 2, (y0 + y1) / 2, text, size, **centre, **options)

    def name(self, text: str, canvas: tuple[int, int], **options: Any) -> None:
        """Write text above the image."""
        x = self.left + canvas[1] * self.scale / 2
        self.page.write(x, self.top - 5, text, ha="center", va="bottom", **options)


def paint_frame(page: Page, place: Any, width: int, color: str) -> None:
    """Paint a frame of the given width inside a rectangle of the page."""
    x0, y0, x1, y1 = place
    ink = to_rgb(color)
    page.part(x0, y0, x1, y0 + width)[:] = ink
    page.part(x0, y1 - width, x1, y1)[:] = ink
    page.part(x0, y0, x0 + width, y1)[:] = ink
    page.part(x1 - width, y0, x1, y1)[:] = ink


def resized(image: Array, height: int, width: int) -> Array:
    """Resize an image ``[h, w, 3]`` in [0, 1]: repeat pixels to enlarge, average them to shrink."""
    whole = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    smaller = height < image.shape[0] or width < image.shape[1]
    method = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    size = (max(width, 1), max(height, 1))
    picture: Array = np.asarray(Image.fromarray(whole).resize(size, method)) / 255.0
    return picture[:height, :width]


def photo(crop: Tensor) -> Array:
    """Return a uint8 crop ``[3, H, W]`` as an image ``[H, W, 3]`` in [0, 1]."""
    picture: Array = crop.permute(1, 2, 0).cpu().numpy() / 255.0
    return picture


def halo() -> list[Any]:
    """Return path effects that make text stand out from an image."""
    return [withStroke(linewidth=2.0, foreground="white")]


def ink_on(color: Any) -> str:
    """Return a text colour that is readable on a colour in [0, 1]."""
    return "white" if float(np.dot(color[:3], LUMA)) < 0.57 else INK

"""Draw shaded tubes, the solids that rendered people are made of, with a depth buffer.

A tube has a straight axis and an elliptic cross section that varies along it. It is drawn in
parallel projection. In the view frame, x points right, y down and z towards the camera, in canvas
pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]
Paint = Callable[[Floats, Floats, Floats], Floats]

KNOTS = 48
FAR = np.float32(-1e6)


@dataclass
class Tube:
    """An axis with elliptic cross sections.

    Attributes:
        start, end: ends of the axis [3].
        across: unit vector along the wide half axis of the cross section [3].
        wide, deep: half axes along `across` and perpendicular to it [KNOTS].
        colour: RGB along the axis [KNOTS, 3], or [1, 3].
        caps: how round the two ends are, from 0 (flat) to 1 (hemisphere).
        folds: strength of folds or unevenness of the surface.
        paint: optional pattern that replaces `colour`. It maps the position along the axis (0..1)
            and on the cross section (across and front, -1..1), all [n], to RGB [n, 3]. Front is
            the person's front if the axis points down and `across` to the left.
    """

    start: Array
    end: Array
    across: Array
    wide: Floats
    deep: Floats
    colour: Floats
    caps: tuple[float, float] = (1.0, 1.0)
    folds: float = 0.0
    paint: Paint | None = None


@dataclass(frozen=True)
class Light:
    """Lighting of the view.

    Attributes:
        direction: unit vector to the light, in the view frame [3].
        ambient, key, sky: brightness from all sides, from the light and from above.
    """

    direction: Array
    ambient: float
    key: float
    sky: float


@functools.cache
def noise_bank() -> Floats:
    """Return random fields [4, 640, 640] of zero mean and unit deviation.

    Three go from fine to coarse. The fourth holds folds: a smooth field lit from the side, which
    looks like creases rather than stains.
    """
    rng = np.random.Generator(np.random.PCG64(20))
    fy, fx = np.fft.fftfreq(640)[:, None], np.fft.rfftfreq(640)[None, :]
    layers: list[Array] = []
    for radius in (1.5, 5.0, 16.0, 6.0):
        spectrum = np.fft.rfft2(rng.standard_normal((640, 640)))
        spectrum *= np.exp(-2 * (np.pi * radius) ** 2 * (fx**2 + fy**2))
        if len(layers) == 3:
            spectrum *= 2j * np.pi * (0.5 * fx + fy)
        field = np.fft.irfft2(spectrum)
        layers.append(field / field.std())
    return np.stack(layers).astype(np.float32)


@dataclass(frozen=True)
class Drawing:
    """The image of a set of tubes.

    Attributes:
        colour: shaded RGB [height, width, 3], 0 where there is no tube.
        depth: z of the front surface [height, width], `FAR` where there is no tube.
    """

    colour: Floats
    depth: Floats


class _Axes:
    """Projections of all tubes: directions in the image, and tables along the axes.

    The outline of an ellipse with covariance S, seen along z, has the half width sqrt(S_uu)
    and the front surface S_uz/S_uu * u + sqrt(S_zz - S_uz^2/S_uu) * sqrt(1 - u^2/S_uu).
    """

    def __init__(self, tubes: Sequence[Tube]) -> None:
        self.start = np.array([tube.start for tube in tubes], np.float32)
        step = np.array([tube.end for tube in tubes], np.float32) - self.start
        across = np.array([tube.across for tube in tubes], np.float32)
        self.wide = np.stack([tube.wide for tube in tubes])
        self.deep = np.stack([tube.deep for tube in tubes])
        flat = np.hypot(step[:, 0], step[:, 1])
        self.length = np.maximum(flat, np.float32(1e-3))
        self.ax = np.where(flat > 1e-3, step[:, 0] / self.length, np.float32(0))
        self.ay = np.where(flat > 1e-3, step[:, 1] / self.length, np.float32(1))
        self.rise = step[:, 2]
        self.tilt = step[:, 2] / np.hypot(self.length, step[:, 2])
        turn = across[:, 1] * self.ax - across[:, 0] * self.ay
        norm = np.hypot(turn, across[:, 2])
        # If the axis is parallel to `across`, there is no proper section; treat it as flat.
        usable, norm = norm > 0.05, np.maximum(norm, np.float32(1e-6))
        self.cos = np.where(usable, turn / norm, np.float32(1))
        self.sin = np.where(usable, across[:, 2] / norm, np.float32(0))
        cos, sin, wide2, deep2 = self.cos[:, None], self.sin[:, None], self.wide**2, self.deep**2
        s_uu = wide2 * cos**2 + deep2 * sin**2
        s_uz = (wide2 - deep2) * cos * sin
        self.narrow = 1 / np.sqrt(s_uu)
        self.slope = s_uz / s_uu
        s_zz = wide2 * sin**2 + deep2 * cos**2
        self.reach = np.sqrt(np.maximum(s_zz - s_uz * self.slope, np.float32(1e-6)))
        roundness = np.array([tube.caps for tube in tubes], np.float32)
        caps = np.maximum(roundness * np.sqrt(s_uu[:, [0, -1]]), np.float32(0.5))
        self.first, self.last = 1 / caps[:, 0], 1 / caps[:, 1]
        margin = np.maximum(np.sqrt(s_uu.max(axis=1)), caps.max(axis=1))[:, None] + 1
        ends = self.start[:, :2], self.start[:, :2] + step[:, :2]
        self.low, self.high = np.minimum(*ends) - margin, np.maximum(*ends) + margin


@dataclass
class _Points:
    """Points of tubes; each array is [n].

    Attributes:
        tube, knot: index of the tube, and index into the flattened tables along the axes.
        pixel: flat index of the pixel in the image.
        place: position along the axis, 0..1.
        side: position across the axis in the image, in pixels.
        beyond: distance past the ends of the axis, in pixels; negative before the start.
        inside: 1 on the axis of the tube, 0 on its outline.
    """

    tube: Index
    knot: Index
    pixel: Index
    place: Floats
    side: Floats
    beyond: Floats
    inside: Floats

    def take(self, which: Index) -> _Points:
        """Return the selected points."""
        return _Points(*(getattr(self, f.name).take(which) for f in fields(self)))


def _scan(axes: _Axes, height: int, width: int) -> _Points:
    """Return the points of all tubes inside the image."""
    limit = np.array([width, height])
    low = np.clip(axes.low.astype(np.intp), 0, limit)
    span = np.clip(axes.high.astype(np.intp) + 1, 0, limit) - low
    count = np.maximum(span, 0).prod(axis=1)

    def spread(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.repeat(values, count)

    # Every pixel of every bounding box, one box after the other; int32 divides faster.
    low, span = low.astype(np.int32), span.astype(np.int32)
    first = (np.cumsum(count) - count).astype(np.int32)
    number = np.arange(int(count.sum()), dtype=np.int32) - spread(first)
    columns = spread(span[:, 0])
    row = number // columns
    column = number - row * columns + spread(low[:, 0])
    row += spread(low[:, 1])
    xs = column.astype(np.float32) + spread(np.float32(0.5) - axes.start[:, 0])
    ys = row.astype(np.float32) + spread(np.float32(0.5) - axes.start[:, 1])
    ax, ay, length = spread(axes.ax), spread(axes.ay), spread(axes.length)
    along, side = xs * ax + ys * ay, ys * ax - xs * ay
    place = np.minimum(np.maximum(along / length, 0), 1)
    beyond = along - place * length
    cap = beyond * np.where(beyond < 0, spread(axes.first), spread(axes.last))
    tube = spread(np.arange(len(count)))
    knot = (place * np.float32(KNOTS - 0.01)).astype(np.intp) + tube * KNOTS
    ratio = side * axes.narrow.take(knot)
    inside = 1 - ratio * ratio - cap * cap
    pixel = (row * width + column).astype(np.intp)
    points = _Points(tube, knot, pixel, place, side, beyond, inside)
    return points.take(np.flatnonzero(inside > 0))


def _shade(axes: _Axes, points: _Points, front: Floats, light: Light) -> Floats:
    """Return brightness [n] from the normals; `front` is their component towards the camera."""
    tube, knot, beyond = points.tube, points.knot, points.beyond
    narrow = axes.narrow.take(knot)
    sideways = points.side * narrow * narrow - axes.slope.take(knot) * front
    cap = np.where(beyond < 0, axes.first.take(tube), axes.last.take(tube))
    lengthwise = beyond * cap * cap - front * axes.tilt.take(tube)
    scale = 1 / np.sqrt(front * front + sideways * sideways + lengthwise * lengthwise + 1e-9)
    sun = light.direction.astype(np.float32)
    across, ahead = sun[1] * axes.ax - sun[0] * axes.ay, sun[0] * axes.ax + sun[1] * axes.ay
    key = sideways * across.take(tube) + lengthwise * ahead.take(tube) + front * sun[2]
    sky = sideways * axes.ax.take(tube) + lengthwise * axes.ay.take(tube)
    total = np.maximum(key, 0) * np.float32(light.key) - sky * np.float32(light.sky)
    return np.asarray(total * scale + np.float32(light.ambient))


def _paint(tubes: Sequence[Tube], axes: _Axes, points: _Points, lift: Floats) -> Floats:
    """Return the colour of the points [n, 3]; `lift` is their height above the axis in pixels."""
    table = np.empty((len(tubes), KNOTS, 3), np.float32)
    for entry, tube in zip(table, tubes, strict=True):
        entry[:] = tube.colour
    colour = table.reshape(-1, 3).take(points.knot, axis=0)
    for number, tube in enumerate(tubes):
        if tube.paint is None:
            continue
        at = np.flatnonzero(points.tube == number)
        side, up, knot = points.side.take(at), lift.take(at), points.knot.take(at)
        cos, sin = axes.cos[number], axes.sin[number]
        across = (side * cos + up * sin) / axes.wide.take(knot)
        ahead = (side * sin - up * cos) / axes.deep.take(knot)
        colour[at] = tube.paint(points.place.take(at), across, ahead)
    return colour


def draw_tubes(
    tubes: Sequence[Tube], height: int, width: int, light: Light, offset: tuple[int, int]
) -> Drawing:
    """Draw tubes; each pixel shows the one nearest to the camera.

    All tubes go through each step together, since most are small and NumPy calls cost more than
    pixels.

    Args:
        tubes: at least one tube.
        height: height of the image, in pixels.
        width: width of the image, in pixels.
        light: the lighting.
        offset: row and column in the noise fields, which choose the folds of this image.

    Returns:
        Colour and depth of the image.
    """
    axes = _Axes(tubes)
    points = _scan(axes, height, width)
    bulge = np.sqrt(points.inside)
    lift = axes.slope.take(points.knot) * points.side + axes.reach.take(points.knot) * bulge
    depth = lift + axes.start[:, 2].take(points.tube)
    depth += points.place * axes.rise.take(points.tube)
    nearest = np.full(height * width, FAR, np.float32)
    np.maximum.at(nearest, points.pixel, depth)
    seen = np.flatnonzero(depth >= nearest.take(points.pixel))
    points, lift = points.take(seen), lift.take(seen)
    front = bulge.take(seen) / axes.reach.take(points.knot)
    shade = _shade(axes, points, front, light)
    row, column = offset
    folds = np.array([tube.folds for tube in tubes], np.float32)
    noise = noise_bank()[3, row : row + height, column : column + width].ravel()
    shade += folds.take(points.tube) * noise.take(points.pixel)
    colour = np.zeros((height * width, 3), np.float32)
    colour[points.pixel] = _paint(tubes, axes, points, lift) * np.maximum(shade, 0)[:, None]
    return Drawing(colour.reshape(height, width, 3), nearest.reshape(height, width))

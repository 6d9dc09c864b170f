"""Paint the surroundings of the rendered people: walls, floors, objects and shadows."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from patchit_hf.data.rendering.camera import RGB, Camera
from patchit_hf.data.rendering.tubes import Array, Floats, noise_bank

Draw = ImageDraw.ImageDraw
Rng = np.random.Generator


def _shift(colour: RGB, rng: Rng, spread: float = 22) -> RGB:
    """Draw a colour near the given one."""
    common = rng.normal(0, spread)
    red, green, blue = (int(np.clip(c + common + rng.normal(0, 7), 5, 250)) for c in colour)
    return red, green, blue


def _vivid(rng: Rng) -> RGB:
    """Draw a colour as of painted objects."""
    red, green, blue = (int(v) for v in rng.integers(15, 235, 3))
    return red, green, blue


def _scaled(colour: RGB, gain: float) -> RGB:
    """Return a lighter or darker shade of a colour."""
    red, green, blue = (int(min(255, c * gain)) for c in colour)
    return red, green, blue


def _windows(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    step, gap = rng.integers(16, 52), rng.integers(3, 14)
    tall = int(rng.integers(18, 70))
    glass = _scaled(wall, rng.uniform(0.3, 1.5))
    for left in range(-int(rng.integers(step)), size[0], int(step)):
        for top in range(int(floor) - int(rng.integers(30, 60)) - tall, -tall, -tall - int(gap)):
            box = (left, top, left + int(step - gap), top + tall)
            draw.rectangle(box, _shift(glass, rng, 14), _scaled(wall, 0.7))


def _door(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    left, wide = rng.uniform(-20, size[0]), rng.uniform(24, 50)
    top = floor - rng.uniform(70, 150)
    colour = _shift(_scaled(wall, rng.uniform(0.4, 0.9)), rng)
    draw.rectangle((left, top, left + wide, floor), colour, _scaled(colour, 0.6), 2)


def _panel(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    left, wide = rng.uniform(-40, size[0]), rng.uniform(15, 70)
    draw.rectangle((left, -2, left + wide, floor), _shift(wall, rng, 35))


def _bricks(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    high, wide = int(rng.integers(5, 12)), int(rng.integers(12, 26))
    mortar = _scaled(wall, rng.uniform(0.7, 1.25))
    for row, y in enumerate(range(int(floor), -high, -high)):
        draw.line((0, y, size[0], y), mortar)
        for x in range((row % 2) * wide // 2 - int(rng.integers(3)), size[0], wide):
            draw.line((x, y - high, x, y), mortar)


def _pole(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    x, wide = rng.uniform(0, size[0]), rng.uniform(2, 9)
    shade = int(rng.integers(30, 200))
    foot = floor + rng.uniform(0, 30)
    draw.rectangle((x, -2, x + wide, foot), (shade, shade, shade))
    draw.rectangle((x, -2, x + wide * 0.35, foot), _scaled((shade, shade, shade), 1.25))


def _sign(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    x, y = rng.uniform(-10, size[0]), rng.uniform(-10, floor)
    wide, tall = rng.uniform(10, 50), rng.uniform(8, 34)
    draw.rectangle((x, y, x + wide, y + tall), _vivid(rng))
    for line in range(int(rng.integers(0, 3))):
        at = y + tall * (0.3 + 0.25 * line)
        draw.line((x + 3, at, x + wide * 0.8, at), _vivid(rng), 2)


def _car(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    long, tall = rng.uniform(90, 170), rng.uniform(34, 56)
    x, base = rng.uniform(-long * 0.8, size[0] - 20), floor + rng.uniform(2, 28)
    paint = _vivid(rng) if rng.random() < 0.5 else _scaled((200, 200, 200), rng.uniform(0.2, 1.2))
    top, belt = base - tall, base - tall * 0.56
    roof = [(0.14, belt), (0.28, top), (0.66, top), (0.86, belt)]
    draw.polygon([(x + long * at, y) for at, y in roof], _scaled(paint, 0.85))
    glass = [(0.19, belt), (0.30, top + 4), (0.63, top + 4), (0.80, belt)]
    draw.polygon([(x + long * at, y) for at, y in glass], (46, 54, 62))
    draw.rounded_rectangle((x, belt, x + long, base - tall * 0.12), 6, paint)
    draw.rectangle((x, base - tall * 0.24, x + long, base - tall * 0.12), _scaled(paint, 0.6))
    for at in (0.2, 0.78):
        wheel = tall * 0.19
        middle = x + long * at
        box = (middle - wheel, base - 2 * wheel, middle + wheel, base)
        draw.ellipse(box, (28, 28, 30), (90, 90, 92), 2)


def _leaves(
    draw: Draw, box: tuple[float, float, float, float], colour: RGB, number: int, rng: Rng
) -> None:
    xs, ys = rng.uniform(box[0], box[2], number), rng.uniform(box[1], box[3], number)
    for x, y, radius, gain in zip(
        xs, ys, rng.uniform(2, 9, number), rng.uniform(0.5, 1.35, number), strict=True
    ):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius * 0.8), _scaled(colour, gain))


def _bush(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    x, wide, tall = rng.uniform(-40, size[0]), rng.uniform(30, 90), rng.uniform(20, 90)
    base = floor + rng.uniform(-8, 12)
    _leaves(draw, (x, base - tall, x + wide, base), _shift((64, 94, 48), rng), 60, rng)


def _tree(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    x, wide = rng.uniform(-10, size[0]), rng.uniform(7, 22)
    bark = _shift((84, 68, 52), rng)
    draw.rectangle((x, -2, x + wide, floor + rng.uniform(0, 20)), bark)
    draw.rectangle((x, -2, x + wide * 0.3, floor), _scaled(bark, 1.3))
    low = rng.uniform(10, 90)
    _leaves(draw, (x - 50, -10, x + 60, low), _shift((70, 100, 52), rng), 50, rng)


def _rail(draw: Draw, size: tuple[int, int], floor: float, wall: RGB, rng: Rng) -> None:
    base, tall, step = floor + rng.uniform(-5, 20), rng.uniform(30, 60), int(rng.integers(7, 22))
    shade = int(rng.integers(30, 190))
    colour = (shade, shade, shade)
    for y in (base - tall, base - tall * rng.uniform(0.3, 0.6)):
        draw.line((0, y, size[0], y), colour, 3)
    for x in range(-int(rng.integers(step)), size[0], step):
        draw.line((x, base - tall, x, base), colour, 2)


_THINGS: dict[str, Callable[[Draw, tuple[int, int], float, RGB, Rng], None]] = {
    "windows": _windows,
    "door": _door,
    "panel": _panel,
    "bricks": _bricks,
    "pole": _pole,
    "sign": _sign,
    "car": _car,
    "bush": _bush,
    "tree": _tree,
    "rail": _rail,
}


def _ground(draw: Draw, size: tuple[int, int], floor: float, colour: RGB, rng: Rng) -> None:
    """Paint the floor from row `floor` down, with tiles, kerbs or stains."""
    width, height = size
    draw.rectangle((0, floor, width, height), colour)
    kind = rng.random()
    if kind < 0.45:
        joint = _scaled(colour, rng.uniform(0.75, 1.2))
        vanish, top = rng.uniform(-60, width + 60), floor - rng.uniform(30, 120)
        widen = (height - floor) / (floor - top)
        for x in np.arange(-150, width + 150, rng.uniform(12, 40)):
            draw.line((x, floor, x + (x - vanish) * widen, height), joint)
        y, step = floor, rng.uniform(5, 14)
        while y < height:
            draw.line((0, y, width, y), joint)
            y, step = y + step, step * 1.2
    for _ in range(int(rng.integers(0, 3))):
        y, tilt, thick = rng.uniform(floor, height), rng.normal(0, 14), int(rng.integers(2, 22))
        line = (-5, y - tilt, width + 5, y + tilt)
        draw.line(line, _scaled(_shift(colour, rng, 8), rng.uniform(0.7, 1.3)), thick)


@functools.cache
def _grime() -> Floats:
    """Return the unevenness [640, 640] of backgrounds, from fine to coarse."""
    return np.tensordot(np.array([0.02, 0.011, 0.025], np.float32), noise_bank()[:3], 1)


def paint_background(camera: Camera, width: int, height: int, horizon: float, rng: Rng) -> Floats:
    """Paint the background.

    Args:
        camera: camera, which sets the style of the surroundings.
        width: width of the scene, in pixels.
        height: height of the scene, in pixels.
        horizon: where the wall meets the floor, as a fraction of the height from the top.
        rng: random generator.

    Returns:
        RGB scene [height, width, 3], 0..1.
    """
    wall = _shift(camera.walls[int(rng.integers(len(camera.walls)))], rng)
    floor = height * horizon
    image = Image.new("RGB", (width, height), wall)
    draw = ImageDraw.Draw(image)
    ground = _shift(camera.floors[int(rng.integers(len(camera.floors)))], rng)
    _ground(draw, (width, height), floor, ground, rng)
    for _ in range(int(rng.integers(2, 6))):
        thing = camera.things[int(rng.integers(len(camera.things)))]
        _THINGS[thing](draw, (width, height), floor, wall, rng)
    image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 1.8)))
    row, column = (int(v) for v in rng.integers(0, 640 - 200, 2))
    grime = _grime()[row : row + height, column : column + width]
    slope = rng.normal(0, 0.16, 2)
    ys = np.linspace(-slope[0], slope[0], height, dtype=np.float32)[:, None]
    xs = np.linspace(1 - slope[1], 1 + slope[1], width, dtype=np.float32)[None, :]
    light = np.float32(rng.uniform(0.0, 2.0)) * grime + (ys + xs)
    light *= np.float32(1 / 255)
    lit: Floats = np.asarray(image, np.float32) * light[..., None]
    return lit


def cast_shadow(picture: Floats, feet: Array, sun: Array, scale: float, soft: float) -> None:
    """Darken the floor below a person, in place.

    Args:
        picture: RGB scene [height, width, 3], 0..1.
        feet: x, y of the feet [n, 2], in pixels.
        sun: direction to the light in the view frame [3].
        scale: body height, in pixels.
        soft: how diffuse the light is, 0..1.
    """
    height, width = picture.shape[:2]
    # Shadows are soft, so half the resolution is enough.
    mask = Image.new("L", (width // 2, height // 2))
    draw = ImageDraw.Draw(mask)
    scale = scale / 2
    wide, tall = 0.085 * scale, 0.028 * scale
    reach = np.array([-sun[0], -0.35 * sun[2]]) * 0.5 * scale
    for x, y in feet / 2:
        if soft < 0.5:
            draw.line((x, y, x + reach[0], y + reach[1]), int(150 * (1 - soft)), int(0.07 * scale))
        draw.ellipse((x - wide, y - tall, x + wide, y + tall), 170)
    mask = mask.filter(ImageFilter.GaussianBlur(1 + 2 * soft))
    mask = mask.resize((width, height), Image.Resampling.BILINEAR)
    gain = np.asarray(mask, np.float32)
    picture *= (1 - gain * np.float32(0.62 / 255))[..., None]

"""The four cameras of the rendered people: surroundings, light, lens and sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from patchit_hf.data.rendering.tubes import Array, Floats

RGB = tuple[int, int, int]
Rng = np.random.Generator


@dataclass(frozen=True)
class Camera:
    """What all images of one camera have in common.

    Attributes:
        things: names of the objects behind the people; see ``scene``.
        walls, floors: possible RGB colours, 0..255.
        pitch: range of the angle by which the camera looks down, in degrees.
        yaw: preferred headings of people, in degrees (0 faces the camera, 90 the right image edge).
        tint: gains of red, green and blue.
        noise: standard deviation of the sensor noise, 0..1.
        blur: largest radius of the lens blur, in pixels of the crop.
        soft: how diffuse the light is, 0..1.
        detail: lowest resolution of the camera, as a fraction of the crop's.
    """

    things: tuple[str, ...]
    walls: tuple[RGB, ...]
    floors: tuple[RGB, ...]
    pitch: tuple[float, float]
    yaw: tuple[float, ...]
    tint: tuple[float, float, float]
    noise: float
    blur: float
    soft: float
    detail: float


_GREYS: tuple[RGB, ...] = ((150, 148, 142), (112, 112, 114), (176, 170, 160), (90, 88, 86))
CAMERAS = (
    Camera(
        things=("car", "pole", "windows", "door", "sign", "car", "bush"),
        walls=((168, 150, 128), (128, 116, 108), (196, 188, 176), (120, 132, 146)),
        floors=_GREYS,
        pitch=(4, 14),
        yaw=(0, 180, 90, -90),
        tint=(1.04, 1.0, 0.93),
        noise=0.014,
        blur=0.7,
        soft=0.25,
        detail=0.6,
    ),
    Camera(
        things=("windows", "door", "sign", "pole", "panel", "panel"),
        walls=((214, 208, 196), (186, 196, 200), (158, 150, 142), (222, 220, 214)),
        floors=((190, 184, 172), (150, 144, 136), (204, 202, 198), (128, 120, 112)),
        pitch=(10, 24),
        yaw=(0, 180, 0, 45, -45),
        tint=(1.06, 1.0, 0.86),
        noise=0.02,
        blur=1.0,
        soft=0.85,
        detail=0.5,
    ),
    Camera(
        things=("bush", "bush", "tree", "pole", "rail", "tree"),
        walls=((96, 120, 74), (130, 148, 110), (150, 164, 176), (84, 100, 70)),
        floors=((112, 132, 78), (156, 146, 124), (128, 124, 116), (96, 112, 70)),
        pitch=(2, 12),
        yaw=(90, -90, 90, -90, 0, 180),
        tint=(0.97, 1.03, 0.97),
        noise=0.012,
        blur=0.6,
        soft=0.4,
        detail=0.65,
    ),
    Camera(
        things=("bricks", "rail", "pole", "sign", "panel", "door", "car"),
        walls=((140, 84, 66), (110, 104, 100), (80, 86, 96), (166, 132, 108)),
        floors=((96, 94, 92), (124, 120, 112), (76, 78, 84), (146, 140, 132)),
        pitch=(6, 20),
        yaw=(180, 0, 135, -135, 90, -90),
        tint=(0.93, 0.99, 1.08),
        noise=0.017,
        blur=0.9,
        soft=0.55,
        detail=0.55,
    ),
)


def sun_direction(soft: float, rng: Rng) -> Array:
    """Draw a unit vector [3] to the light, in the view frame (x right, y down, z to the camera)."""
    side = rng.uniform(-1, 1) * (1 - 0.4 * soft)
    sun = np.array([side, -rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.9)])
    return np.asarray(sun / np.linalg.norm(sun))


def take_picture(picture: Floats, camera: Camera, width: int, height: int, rng: Rng) -> Image.Image:
    """Photograph a scene.

    Args:
        picture: RGB scene [rows, columns, 3], 0..1.
        camera: the camera, with its resolution, blur, white balance and noise.
        width: width of the result, in pixels.
        height: height of the result, in pixels.
        rng: random generator.

    Returns:
        RGB image of the given size.
    """
    image = Image.fromarray((np.minimum(picture, 1) * np.float32(255)).astype(np.uint8))
    detail = rng.uniform(camera.detail, 1.0)
    rows = int(200 * detail)
    if rows < picture.shape[0]:
        image = image.resize((int(100 * detail), rows), Image.Resampling.BILINEAR)
    blur = rng.uniform(0, camera.blur) ** 2 * detail
    if blur > 0.1:
        image = image.filter(ImageFilter.BoxBlur(1.3 * blur))
    gain = np.array(camera.tint) * rng.normal(1, 0.025, 3) * rng.uniform(0.84, 1.06)
    contrast, middle = rng.uniform(0.85, 1.15), rng.uniform(0.42, 0.5)
    base = 255 * (middle * (1 - contrast) + rng.normal(0, 0.015)) + 0.5
    levels = np.arange(256) * (gain * contrast)[:, None] + base
    image = image.point(np.clip(levels, 0, 255).astype(int).ravel().tolist())
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    # The same grain in all channels, since cameras smooth colour noise away.
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    grain *= np.float32(255 * camera.noise * math.exp(rng.normal(-0.2, 0.4)))
    values = np.asarray(image, np.int16) + np.rint(grain).astype(np.int16)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))

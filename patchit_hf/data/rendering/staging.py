"""Stage one image: place a posed person in front of a background and photograph it."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from patchit_hf.data.rendering.camera import Camera, sun_direction, take_picture
from patchit_hf.data.rendering.figure import Figure
from patchit_hf.data.rendering.scene import cast_shadow, paint_background
from patchit_hf.data.rendering.skeleton import (
    ANKLE,
    HEAD_TOP,
    HIP,
    JOINTS,
    KNEE,
    NECK,
    SHOULDER,
    Skeleton,
    pose,
    view_rotation,
)
from patchit_hf.data.rendering.tubes import FAR, Array, Drawing, Floats, Light, draw_tubes
from patchit_hf.data.rendering.wardrobe import Person, draw_person

# Scenes are drawn at this size for speed; the cameras resolve less than a 200 x 100 crop could show
# anyway. The width of a scene also depends on the person.
_ROWS, _COLUMNS = 168, 84


class _Frame:
    """Where a person stands in the crop: scale, origin, and the width before squeezing."""

    def __init__(self, skeleton: Skeleton, rotation: Array, rng: np.random.Generator) -> None:
        points = np.concatenate([skeleton.joints, skeleton.toes, skeleton.tips]) @ rotation.T
        low, high = points.min(axis=0), points.max(axis=0)
        # Like a box of a detector: with a raised hand, but without its fingertips and the shoes.
        tall, wide = float(high[1] - low[1]) + 0.03, float(high[0] - low[0]) + 0.09
        stretch = rng.uniform(0.92, 1.06)
        wanted = _ROWS * rng.uniform(0.88, 0.97) / tall
        # Wide boxes are squeezed to the shape of the crop, as is common for person crops.
        room = _COLUMNS * rng.uniform(0.9, 0.97)
        self.squeeze = float(np.clip(room / (wanted * wide), 0.72, stretch))
        self.scale = min(wanted, room / (self.squeeze * wide))
        self.width = 2 * round(_COLUMNS / self.squeeze / 2)
        spare = self.width - self.scale * wide, _ROWS - self.scale * tall
        x = spare[0] / 2 + np.clip(rng.normal(0, 0.035), -0.07, 0.07) * self.width
        x = float(np.clip(x, min(0, spare[0]), max(0, spare[0])))
        y = spare[1] * rng.uniform(0.2, 0.8)
        self.origin = np.array(
            [x + self.scale * (0.045 - low[0]), y + self.scale * (0.005 - low[1]), 0.0]
        )


def _visible(figure: Figure, drawing: Drawing, scale: float) -> Floats:
    """Return for each joint [14] whether it is visible, that is close below the drawn surface."""
    rows, columns = drawing.depth.shape
    at = np.floor(figure.joints[:, :2]).astype(int)
    x, y = np.clip(at[:, 0], 0, columns - 1), np.clip(at[:, 1], 0, rows - 1)
    cover = drawing.depth[y, x] - figure.joints[:, 2]
    limit = np.full(len(JOINTS), 0.062)
    # Hips and shoulders lie deep in the trunk, knees under shorts and skirts, head top and neck
    # under hair and hats.
    for joints in (KNEE, SHOULDER, HIP, (NECK, HEAD_TOP)):
        limit[list(joints)] = 0.095
    return np.asarray(cover < limit * scale, np.float32)


def _passer_by(seed: int, frame: _Frame, rng: np.random.Generator) -> Figure:
    """Draw another person further back, cut off by the edge of the crop."""
    person = draw_person(seed, int(rng.integers(1 << 30)))
    skeleton = pose(person.body, "walking" if rng.random() < 0.7 else "standing", [0], rng)
    turn = view_rotation(rng.uniform(0, 2 * math.pi), 0.1)
    scale = frame.scale * rng.uniform(0.62, 0.95)
    edge = rng.uniform(-0.06, 0.14) * frame.width
    x = edge if rng.random() < 0.5 else frame.width - edge
    y = frame.origin[1] - rng.uniform(0.02, 0.2) * frame.scale
    origin = np.array([x, y, -8 * _ROWS])
    return Figure(person, skeleton, turn, scale, origin)


def _crevices(drawing: Drawing, scale: float) -> Floats:
    """Return the fraction of light [rows, columns] that reaches gaps between limbs and trunk."""
    near = np.clip(drawing.depth * np.float32(240 / scale) + 128, 0, 255)
    depth = Image.fromarray(near.astype(np.uint8))
    around = np.asarray(depth.filter(ImageFilter.BoxBlur(0.022 * scale)), np.float32)
    shade = np.clip((around - near) * np.float32(0.022), 0, 0.42)
    return np.asarray(1 - shade)


def _compose(scene: Floats, drawing: Drawing, scale: float) -> Floats:
    """Return the scene [rows, columns, 3] with the people in front of it."""
    figures = drawing.colour * _crevices(drawing, scale)[..., None]
    return np.where((drawing.depth > FAR)[..., None], figures, scene)


def _light(camera: Camera, rng: np.random.Generator) -> tuple[Light, float]:
    """Draw the light of one image, and how diffuse it is, 0..1."""
    soft = float(np.clip(camera.soft + rng.normal(0, 0.2), 0, 1))
    sun = sun_direction(soft, rng)
    return Light(sun, 0.5 + 0.2 * soft, 0.62 * (1 - 0.6 * soft), 0.1 + 0.06 * soft), soft


def stage(
    person: Person,
    action: str,
    yaw: float,
    camera: Camera,
    seed: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Image.Image, Floats]:
    """Make one image of a person.

    Args:
        person: the identity.
        action: one of `patchit_hf.data.rendering.skeleton.ACTIONS`.
        yaw: heading in radians; 0 faces the camera, pi/2 the right image edge.
        camera: the camera and its surroundings.
        seed: seed of the data set, for the passers-by.
        size: height and width of the crop, in pixels.
        rng: random generator.

    Returns:
        The RGB crop, and keypoints float32 [14, 3]: x, y in pixels of the crop, and 1 if visible,
        else 0.
    """
    pitch = math.radians(rng.uniform(*camera.pitch))
    rotation = view_rotation(yaw, pitch)
    skeleton = pose(person.body, action, person.free_hands(), rng)
    frame = _Frame(skeleton, rotation, rng)
    light, soft = _light(camera, rng)
    corner = tuple(int(v) for v in rng.integers(0, (230, 340)))
    rows, columns = _ROWS, frame.width
    figure = Figure(person, skeleton, rotation, frame.scale, frame.origin)
    figures = [figure]
    if rng.random() < 0.25:
        figures.append(_passer_by(seed, frame, rng))
    tubes = [tube for one in figures for tube in one.tubes]
    drawing = draw_tubes(tubes, rows, columns, light, (corner[0], corner[1]))
    feet = np.concatenate([one.joints[list(ANKLE), :2] for one in figures])
    feet[:, 1] += 0.035 * frame.scale
    horizon = float(np.clip(rng.uniform(0.3, 0.98) - 0.9 * pitch, 0.04, 0.95))
    scene = paint_background(camera, columns, rows, horizon, rng)
    cast_shadow(scene, feet, light.direction, frame.scale, soft)
    scene = _compose(scene, drawing, frame.scale)
    image = take_picture(scene, camera, size[1], size[0], rng)
    keypoints = np.empty((len(JOINTS), 3), np.float32)
    keypoints[:, :2] = figure.joints[:, :2] / (columns, rows) * size[::-1]
    keypoints[:, 2] = _visible(figure, drawing, frame.scale)
    return image, keypoints

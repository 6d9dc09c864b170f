"""Pose the skeleton of a rendered person.

Lengths are in units of the standing body height. In the body frame, x points to the person's own
left, y up and z to the front. In a front view, the person's left is thus at the larger image x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

JOINTS = (
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "neck",
    "head_top",
)
ACTIONS = ("standing", "walking", "running", "waving", "phoning", "carrying")

# A side is 0 (right) or 1 (left) throughout; its sign is the direction along x of the body.
SIGN = (-1.0, 1.0)
ANKLE, KNEE, HIP = (0, 5), (1, 4), (2, 3)
WRIST, ELBOW, SHOULDER = (6, 11), (7, 10), (8, 9)
NECK, HEAD_TOP = 12, 13


@dataclass(frozen=True)
class Body:
    """Proportions of one person.

    Attributes:
        girth: thickness of trunk and limbs relative to a slim adult.
        shoulders: half the distance between the shoulder joints, in body heights.
        hips: half the distance between the hip joints, in body heights.
        legs: length of the legs relative to the average.
        head: size of the head relative to the average.
    """

    girth: float = 1.0
    shoulders: float = 0.1
    hips: float = 0.047
    legs: float = 1.0
    head: float = 1.0


@dataclass
class Skeleton:
    """Posed body; points are in body heights, with y = 0 on the floor.

    Attributes:
        joints: joints in the order of `JOINTS` [14, 3].
        toes: tips of the right and the left foot [2, 3].
        tips: fingertips of the right and the left hand [2, 3].
        head: centre of the head [3].
        up: direction of the spine [3].
        across: direction from the right to the left shoulder [3].
        gaze: rotation of the head about the spine, in radians, positive to the person's left.
        boxed: whether both hands carry a box.
        phone: side that holds a telephone (0 right, 1 left), or -1.
    """

    joints: Array
    toes: Array
    tips: Array
    head: Array
    up: Array
    across: Array
    gaze: float
    boxed: bool = False
    phone: int = -1


@dataclass
class _Angles:
    """Joint angles in radians; lists have one entry per side; flexion is to the front."""

    lean: float
    twist: float
    hip: list[float]
    knee: list[float]
    spread: list[float]
    shoulder: list[float]
    elbow: list[float]
    abduct: list[float]


def _direction(flex: float, abduct: float, sign: float) -> Array:
    """Return the unit vector of a limb raised by `flex` to the front and `abduct` outwards."""
    return np.array(
        [
            sign * math.sin(abduct),
            -math.cos(flex) * math.cos(abduct),
            math.sin(flex) * math.cos(abduct),
        ]
    )


def _gait(rng: np.random.Generator, swing: float, run: bool) -> _Angles:
    """Draw the joint angles of one moment of a walking or running cycle."""
    phase = rng.uniform(0, 2 * math.pi)
    phases = (phase, phase + math.pi)
    lift = math.radians(85 if run else 48) * swing
    bend = math.radians(75 if run else rng.uniform(8, 28))
    hips = [swing * math.radians(38 if run else 25) * math.sin(p) for p in phases]
    forward = math.radians(12 if run else 2)
    return _Angles(
        lean=math.radians(rng.uniform(6, 15) if run else rng.uniform(-1, 5)),
        twist=-math.radians(14 if run else 8) * swing * math.sin(phase),
        hip=[h + forward for h in hips],
        knee=[math.radians(16 if run else 5) + lift * max(0.0, math.cos(p)) for p in phases],
        spread=[math.radians(rng.uniform(0, 4)) for _ in phases],
        shoulder=[-0.95 * h * (1.1 if run else 0.9) - (0.15 if run else 0.0) for h in hips],
        elbow=[bend + 0.5 * max(0.0, -h) for h in hips],
        abduct=[math.radians(rng.uniform(4, 14)) for _ in phases],
    )


def _still(rng: np.random.Generator) -> _Angles:
    """Draw the joint angles of a standing person."""
    stagger = math.radians(rng.uniform(-8, 8))
    return _Angles(
        lean=math.radians(rng.uniform(-3, 4)),
        twist=math.radians(rng.uniform(-8, 8)),
        hip=[stagger + 0.05, -stagger + 0.05],
        knee=[math.radians(rng.uniform(3, 14)) for _ in SIGN],
        spread=[math.radians(rng.uniform(0, 8)) for _ in SIGN],
        shoulder=[math.radians(rng.uniform(-14, 12)) for _ in SIGN],
        elbow=[math.radians(rng.uniform(6, 45)) for _ in SIGN],
        abduct=[math.radians(rng.uniform(4, 15)) for _ in SIGN],
    )


def _reach(root: Array, target: Array, upper: float, lower: float, pole: Array) -> Array:
    """Return the elbow [3] of an arm from `root` to `target` that bends towards `pole`."""
    line = target - root
    dist = float(np.clip(np.linalg.norm(line), abs(upper - lower) + 1e-3, upper + lower - 1e-3))
    line /= np.linalg.norm(line)
    along = (upper**2 - lower**2 + dist**2) / (2 * dist)
    away = pole - line * float(pole @ line)
    away /= np.linalg.norm(away) + 1e-9
    return np.asarray(root + line * along + away * math.sqrt(max(upper**2 - along**2, 0.0)))


def _legs(joints: Array, toes: Array, body: Body, angles: _Angles) -> None:
    """Fill in the leg joints, with the centre of the pelvis at the origin."""
    for side, sign in enumerate(SIGN):
        hip = np.array([sign * body.hips, 0.0, 0.0])
        shin = angles.hip[side] - angles.knee[side]
        knee = hip + 0.235 * body.legs * _direction(angles.hip[side], angles.spread[side], sign)
        ankle = knee + 0.24 * body.legs * _direction(shin, 0.4 * angles.spread[side], sign)
        # A lifted foot points down along the shin, a planted one stays flat.
        pitch = 0.75 * shin if angles.knee[side] > 0.5 else 0.3 * min(shin, 0.0)
        toe = np.array([0.18 * sign, math.sin(pitch) - 0.12, math.cos(pitch)])
        joints[HIP[side]], joints[KNEE[side]], joints[ANKLE[side]] = hip, knee, ankle
        toes[side] = ankle + 0.095 * toe + np.array([0.0, -0.012, 0.0])


def _arms(joints: Array, tips: Array, angles: _Angles) -> None:
    """Fill in freely hanging or swinging arms."""
    for side, sign in enumerate(SIGN):
        flex, abduct = angles.shoulder[side], angles.abduct[side]
        elbow = joints[SHOULDER[side]] + 0.168 * _direction(flex, abduct, sign)
        fore = _direction(flex + angles.elbow[side], abduct * 0.35, sign)
        joints[ELBOW[side]], joints[WRIST[side]] = elbow, elbow + 0.145 * fore
        tips[side] = joints[WRIST[side]] + 0.065 * fore


def _place_hand(skeleton: Skeleton, side: int, wrist: Array, pole: Array, hand: Array) -> None:
    """Move one arm so that its wrist is at `wrist`, or as near as it reaches."""
    root = skeleton.joints[SHOULDER[side]]
    elbow = _reach(root, wrist, 0.168, 0.145, pole)
    fore = wrist - elbow
    end = elbow + 0.145 * fore / (np.linalg.norm(fore) + 1e-9)
    skeleton.joints[ELBOW[side]], skeleton.joints[WRIST[side]] = elbow, end
    skeleton.tips[side] = end + 0.065 * hand / np.linalg.norm(hand)


def _act(skeleton: Skeleton, action: str, free: list[int], rng: np.random.Generator) -> None:
    """Move the arms for the actions that need them."""
    if action == "waving":
        side = int(rng.choice(free))
        out = SIGN[side] * rng.uniform(0.06, 0.17)
        wrist = skeleton.joints[SHOULDER[side]] + np.array([out, rng.uniform(0.13, 0.24), 0.07])
        pole = np.array([SIGN[side], -0.6, 0.1])
        hand = np.array([rng.uniform(-0.5, 0.5), 1.0, 0.1])
        _place_hand(skeleton, side, wrist, pole, hand)
    elif action == "phoning":
        side = int(rng.choice(free))
        skeleton.phone = side
        # The wrist stays below the ear and in front of the shoulder, so that the elbow points down.
        near = np.array([-0.018 * SIGN[side], rng.uniform(0.025, 0.04), 0.062])
        wrist = skeleton.joints[SHOULDER[side]] + near
        pole = np.array([SIGN[side] * rng.uniform(0.2, 0.9), -1.0, rng.uniform(0.2, 0.6)])
        hand = np.array([-0.22 * SIGN[side], 1.0, -0.45])
        _place_hand(skeleton, side, wrist, pole, hand)
    elif action == "carrying":
        skeleton.boxed = True
        level = rng.uniform(-0.23, -0.17)
        for side, sign in enumerate(SIGN):
            wrist = skeleton.joints[NECK] + np.array([sign * 0.098, level, 0.17])
            _place_hand(skeleton, side, wrist, np.array([sign * 0.6, -1.0, -0.6]), np.eye(3)[2])


def pose(body: Body, action: str, free: list[int], rng: np.random.Generator) -> Skeleton:
    """Pose a body for an action.

    Args:
        body: proportions of the person.
        action: one of `ACTIONS`.
        free: sides whose hand is empty (0 right, 1 left); waving and phoning need one.
        rng: random generator.

    Returns:
        The posed skeleton, with the lowest foot at y = 0.
    """
    if action in ("walking", "running"):
        angles = _gait(rng, rng.uniform(0.75, 1.15), run=action == "running")
    elif action != "standing" and rng.random() < 0.45:
        angles = _gait(rng, rng.uniform(0.5, 0.95), run=False)
    else:
        angles = _still(rng)
    joints, toes, tips = np.zeros((14, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    _legs(joints, toes, body, angles)
    tilt = math.radians(rng.uniform(-2, 2))
    up = np.array([math.sin(tilt), math.cos(angles.lean), math.sin(angles.lean)])
    up /= np.linalg.norm(up)
    across = np.array([math.cos(angles.twist), -math.sin(tilt), -math.sin(angles.twist)])
    joints[NECK] = 0.328 * up
    for side, sign in enumerate(SIGN):
        joints[SHOULDER[side]] = 0.3 * up + sign * body.shoulders * across
    nod = up + np.array([0.0, 0.0, rng.uniform(0.0, 0.25)])
    nod /= np.linalg.norm(nod)
    head = joints[NECK] + (0.03 + 0.055 * body.head) * nod
    joints[HEAD_TOP] = head + 0.066 * body.head * nod
    skeleton = Skeleton(joints, toes, tips, head, up, across, rng.uniform(-0.45, 0.45))
    _arms(joints, tips, angles)
    _act(skeleton, action, free, rng)
    floor = min(float(joints[list(ANKLE), 1].min()) - 0.04, float(toes[:, 1].min()) - 0.02)
    for points in (joints, toes, tips):
        points[:, 1] -= floor
    head[1] -= floor
    return skeleton


def view_rotation(yaw: float, pitch: float) -> Array:
    """Return the rotation [3, 3] from the body frame to the view frame.

    In the view frame, x points right, y down and z to the camera.

    Args:
        yaw: heading in radians; 0 faces the camera, -pi/2 the left image edge.
        pitch: angle by which the camera looks down, in radians.
    """
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    turn = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    look = np.array([[1.0, 0.0, 0.0], [0.0, -cp, sp], [0.0, sp, cp]])
    return np.asarray(look @ turn)

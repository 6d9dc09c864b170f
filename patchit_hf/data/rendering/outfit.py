"""Heads, hats and bags of the rendered people."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from patchit_hf.data.rendering.skeleton import HIP, NECK, SIGN, WRIST, Skeleton
from patchit_hf.data.rendering.tubes import Array
from patchit_hf.data.rendering.wardrobe import Colour, Person

Adder = Callable[..., None]
Place = Callable[[float, float, float], Array]

_DARK = np.array([0.10, 0.07, 0.06], np.float32)
_FRAME = np.array([0.05, 0.05, 0.06], np.float32)
_LIPS = np.array([0.80, 0.55, 0.52], np.float32)


def add_head(person: Person, at: Place, add: Adder, left: Array, size: float) -> None:
    """Add the head with face, hair, glasses and hat.

    Args:
        person: the identity.
        at: maps (left, up, front), relative to the centre of the head and in units of an average
            head, to the body frame.
        add: adds a tube that is given in the body frame.
        left: direction of the head's left in the body frame [3].
        size: size of the head relative to the average.
    """
    skin = person.skin
    skull = [(0.0, 0.040 * size), (0.35, 0.044 * size), (1.0, 0.033 * size)]
    depth = [(0.0, 0.048 * size), (0.4, 0.052 * size), (1.0, 0.042 * size)]
    add(at(0, 0.028, 0), at(0, -0.038, 0.006), skull, depth, skin, across=left, caps=(0.95, 0.8))
    for sign in SIGN:
        ear = at(0.045 * sign, -0.004, -0.004)
        add(ear, at(0.044 * sign, -0.02, -0.006), 0.008 * size, None, skin * 0.9)
        eye = at(0.018 * sign, 0.004, 0.0475)
        add(eye, eye + 0.004 * left, 0.0058 * size, None, _DARK)
        brow = 0.6 * person.hair + 0.2 * skin
        add(at(0.009 * sign, 0.0165, 0.0485), at(0.027 * sign, 0.015, 0.044), 0.0034, None, brow)
    add(at(0, 0.002, 0.049), at(0, -0.019, 0.0555), 0.0062 * size, None, skin * 0.93)
    mouth = skin * _LIPS
    add(at(-0.012, -0.038, 0.0445), at(0.012, -0.038, 0.0445), 0.0038 * size, None, mouth)
    if person.glasses:
        _glasses(at, add, size)
    if not person.bald:
        _hair(person, at, add, left, size)
    if person.hat:
        _hat(person, at, add, left, size)


def _glasses(at: Place, add: Adder, size: float) -> None:
    """Add dark glasses with temples."""
    for sign in SIGN:
        lens = at(0.0195 * sign, 0.002, 0.0495)
        add(lens, at(0.023 * sign, 0.002, 0.0485), 0.0125 * size, None, _FRAME)
        add(at(0.033 * sign, 0.006, 0.045), at(0.047 * sign, 0.004, 0.0), 0.004, None, _FRAME)
    add(at(-0.01, 0.006, 0.055), at(0.01, 0.006, 0.055), 0.003, None, _FRAME)


def _hair(person: Person, at: Place, add: Adder, left: Array, size: float) -> None:
    """Add hair on the skull and, if long, down to the shoulder blades."""
    hair = person.hair
    half, depth = 0.0475 * size, 0.047 * size
    add(
        at(0, 0.028, -0.008),
        at(0, -0.012, -0.016),
        half,
        depth,
        hair,
        across=left,
        caps=(0.96, 0.75),
        folds=0.06,
    )
    # The hairline: a bowl over the forehead, flatter at the temples.
    crown = [(0.0, 0.0465 * size), (1.0, 0.047 * size)]
    fringe = [(0.0, 0.050 * size), (1.0, 0.0545 * size)]
    low = at(0, 0.033, -0.001)
    add(at(0, 0.038, -0.001), low, crown, fringe, hair, across=left, caps=(0.72, 0.12), folds=0.06)
    if person.long_hair:
        wide = [(0.0, 0.049 * size), (0.5, 0.056 * size), (1.0, 0.042 * size)]
        deep = [(0.0, 0.036 * size), (0.6, 0.028 * size), (1.0, 0.016 * size)]
        tip = at(0, -0.155, -0.048)
        add(at(0, 0.02, -0.022), tip, wide, deep, hair, across=left, caps=(0.8, 0.7), folds=0.09)


def _hat(person: Person, at: Place, add: Adder, left: Array, size: float) -> None:
    """Add a cap with a peak, a woollen hat or a hat with a brim."""
    colour, half, depth = person.hat_colour, 0.0515 * size, 0.0585 * size
    top, bottom = at(0, 0.032, -0.003), at(0, 0.02, -0.003)
    if person.hat_style == 1:
        bottom = at(0, 0.008, -0.005)
    add(top, bottom, half, depth, colour, across=left, caps=(1.0, 0.1), folds=0.03)
    if person.hat_style == 0:
        peak = colour * 0.8
        add(at(0, 0.026, 0.04), at(0, 0.014, 0.088), 0.036 * size, 0.005 * size, peak, across=left)
    elif person.hat_style == 1:
        band = [(0.0, half * 1.05), (1.0, half * 1.04)]
        deep = [(0.0, depth * 1.05), (1.0, depth * 1.04)]
        add(at(0, 0.021, -0.004), bottom, band, deep, colour * 0.82, across=left, caps=(0.1, 0.1))
    else:
        brim = 0.083 * size
        start, end = at(0, 0.022, 0), at(0, 0.014, 0)
        add(start, end, brim, brim, colour * 0.85, across=left, caps=(0.03, 0.03))


def add_bags(person: Person, skeleton: Skeleton, add: Adder, front: Array, left: Array) -> None:
    """Add the bags that the person carries.

    Args:
        person: the identity.
        skeleton: posed body, in body heights.
        add: adds a tube that is given in the body frame.
        front: direction of the chest [3].
        left: direction from the right to the left shoulder [3].
    """
    neck, up = skeleton.joints[NECK], skeleton.up
    girth = person.body.girth * person.looseness

    def at(across: float, rise: float, ahead: float) -> Array:
        return np.asarray(neck + across * left + rise * up + ahead * front)

    if person.backpack:
        _backpack(person.gear, at, add, girth)
    if person.shoulder_bag >= 0:
        pelvis = (skeleton.joints[HIP[0]] + skeleton.joints[HIP[1]]) / 2
        _shoulder_bag(person, SIGN[person.shoulder_bag], at, add, front, pelvis - neck)
    if person.hand_bag >= 0:
        wrist, tip = skeleton.joints[WRIST[person.hand_bag]], skeleton.tips[person.hand_bag]
        grip = wrist + 0.6 * (tip - wrist)
        down = np.array([0.0, -1.0, 0.0])
        colour = person.gear * 0.9
        add(grip, grip + 0.045 * down, 0.006, None, colour * 0.7)
        wide = [(0.0, 0.048), (1.0, 0.064)]
        side = np.array([0.35, 0.0, 0.94])
        bottom = grip + 0.15 * down
        add(grip + 0.04 * down, bottom, wide, 0.026, colour, across=side, caps=(0.1, 0.12))


def _backpack(gear: Colour, at: Place, add: Adder, girth: float) -> None:
    """Add a backpack with two straps over the shoulders."""
    back = -0.062 * girth - 0.03
    wide = [(0.0, 0.058), (0.2, 0.076), (0.85, 0.08), (1.0, 0.07)]
    add(at(0, 0.005, back), at(0, -0.25, back - 0.01), wide, 0.046, gear, caps=(0.5, 0.3))
    pocket = [(0.0, 0.05), (1.0, 0.056)]
    add(at(0, -0.13, back - 0.03), at(0, -0.22, back - 0.03), pocket, 0.03, gear * 0.8)
    chest = 0.062 * girth + 0.004
    for sign in SIGN:
        route = [
            at(0.056 * sign, -0.005, -0.045),
            at(0.062 * sign, 0.002, 0.02),
            at(0.066 * sign, -0.05, chest - 0.012),
            at(0.07 * sign, -0.13, chest - 0.008),
            at(0.09 * sign, -0.21, 0.01),
        ]
        for first, second in itertools.pairwise(route):
            add(first, second, 0.0135, 0.0135, gear * 0.85)


def _shoulder_bag(
    person: Person, sign: float, at: Place, add: Adder, front: Array, pelvis: Array
) -> None:
    """Add a bag at the hip, on a strap over the shoulder of the same side."""
    gear, girth = person.gear, person.body.girth * person.looseness
    hang = -float(np.linalg.norm(pelvis)) + 0.045
    out = 0.096 * girth + 0.036
    shoulder = person.body.shoulders * 0.72
    bag = [(0.0, 0.068), (1.0, 0.076)]
    top, bottom = at(out * sign, hang, -0.025), at(out * sign, hang - 0.115, -0.025)
    add(top, bottom, bag, 0.033, gear, across=front, caps=(0.1, 0.15), folds=0.03)
    chest = 0.062 * girth
    for ahead in (-1.0, 1.0):
        over = at(shoulder * sign, 0.004, 0.0)
        middle = at((shoulder + 0.022) * sign, -0.1, ahead * chest)
        end = at(out * sign, hang, ahead * 0.05 - 0.025)
        for first, second in ((over, middle), (middle, end)):
            add(first, second, 0.008, None, gear * 0.75)

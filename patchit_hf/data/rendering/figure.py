"""Dress a posed skeleton as a person made of tubes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from patchit_hf.data.rendering.cloth import pattern_paint, trunk_paint
from patchit_hf.data.rendering.outfit import add_bags, add_head
from patchit_hf.data.rendering.skeleton import (
    ANKLE,
    ELBOW,
    HIP,
    KNEE,
    NECK,
    SHOULDER,
    SIGN,
    WRIST,
    Skeleton,
)
from patchit_hf.data.rendering.tubes import KNOTS, Array, Floats, Paint, Tube
from patchit_hf.data.rendering.wardrobe import LOWER_WEAR, Colour, Person

Profile = float | Sequence[tuple[float, float]]

_PLACES = np.linspace(0, 1, KNOTS)
_DARK = np.array([0.07, 0.06, 0.06], np.float32)
_BOX = np.array([0.66, 0.50, 0.33], np.float32)


def _profile(value: Profile) -> Floats:
    """Return half widths [KNOTS] from a constant or from (position, value) pairs."""
    if isinstance(value, int | float):
        return np.full(KNOTS, value, np.float32)
    places, values = zip(*value, strict=True)
    return np.asarray(np.interp(_PLACES, places, values), np.float32)


def _split(first: Colour, second: Colour, place: float) -> Floats:
    """Return colours [KNOTS, 3] that change from the first to the second at a position."""
    return np.where(_PLACES[:, None] < place, first, second).astype(np.float32)


class Figure:
    """One dressed, posed person in the view frame.

    Attributes:
        tubes: all tubes to draw, in the view frame.
        joints: joints in the view frame [14, 3], in canvas pixels.
    """

    def __init__(
        self,
        person: Person,
        skeleton: Skeleton,
        rotation: Array,
        scale: float,
        origin: Array,
    ) -> None:
        """Dress the skeleton.

        Args:
            person: the identity.
            skeleton: posed body, in body heights.
            rotation: rotation from the body to the view frame [3, 3].
            scale: canvas pixels per body height.
            origin: position on the canvas of the floor below the pelvis [3].
        """
        self.tubes: list[Tube] = []
        self._person, self._skeleton = person, skeleton
        self._rotation, self._scale, self._origin = rotation, scale, origin
        self.joints = self.project(skeleton.joints)
        joints = skeleton.joints
        self._pelvis = (joints[HIP[0]] + joints[HIP[1]]) / 2
        self._left = skeleton.across / np.linalg.norm(skeleton.across)
        self._front = np.cross(self._left, skeleton.up)
        self._loose = person.body.girth * person.looseness
        self._legs()
        self._trunk()
        self._arms()
        self._head()
        self._bags()
        self._to_view()

    def _to_view(self) -> None:
        """Transform all tubes from the body to the view frame, at once for speed."""
        starts = self.project(np.array([tube.start for tube in self.tubes]))
        ends = self.project(np.array([tube.end for tube in self.tubes]))
        across = np.array([tube.across for tube in self.tubes]) @ self._rotation.T
        for tube, *place in zip(self.tubes, starts, ends, across, strict=True):
            tube.start, tube.end, tube.across = place

    def project(self, points: Array) -> Array:
        """Map points [..., 3] from the body frame to the canvas, in pixels."""
        placed: Array = self._origin + self._scale * (points @ self._rotation.T)
        return placed

    def _add(
        self,
        start: Array,
        end: Array,
        wide: Profile,
        deep: Profile | None,
        colour: Floats,
        *,
        across: Array | None = None,
        caps: tuple[float, float] = (1.0, 1.0),
        folds: float = 0.0,
        paint: Paint | None = None,
    ) -> None:
        """Add a tube that is given in the body frame."""
        half = _profile(wide) * np.float32(self._scale)
        other = half if deep is None else _profile(deep) * np.float32(self._scale)
        self.tubes.append(
            Tube(
                start,
                end,
                self._left if across is None else across,
                half,
                other,
                colour[None] if colour.ndim == 1 else colour,
                caps,
                folds,
                paint,
            )
        )

    def _legs(self) -> None:
        """Add legs, shoes and the lower wear."""
        person, joints, girth = self._person, self._skeleton.joints, self._person.body.girth
        kind = LOWER_WEAR[person.lower_wear]
        upper, lower = {"trousers": (2.0, 2.0), "shorts": (0.82, -1.0), "skirt": (-1.0, -1.0)}[kind]
        thin = 0.5 + 0.5 * girth
        cloth = person.looseness * (1.1 if kind == "shorts" else 1.0)
        for side in (0, 1):
            hip, knee, ankle = (joints[j[side]] for j in (HIP, KNEE, ANKLE))
            thigh = [(0.0, 0.05 * girth), (0.4, 0.048 * girth), (1.0, 0.037 * thin)]
            if upper > 0:
                edge = min(upper, 1.0)
                thigh = [(0.0, 0.059 * girth * cloth), (edge, 0.043 * thin * cloth)]
                thigh += [(edge + 0.02, 0.038 * thin), (1.0, 0.036 * thin)] if edge < 1 else []
            colour = _split(person.lower, person.skin, upper)
            self._add(hip, knee, thigh, None, colour, folds=0.05)
            calf = [(0.0, 0.036 * thin), (0.3, 0.038 * thin), (0.95, 0.022)]
            if lower > 0:
                calf = [(0.0, 0.042 * thin * cloth), (1.0, 0.034 * thin * cloth)]
            colour = _split(person.lower, person.skin, lower)
            hem = ankle + 0.12 * (ankle - knee) if lower > 0 else ankle
            caps = (1.0, 0.2) if lower > 0 else (1.0, 1.0)
            self._add(knee, hem, calf, None, colour, folds=0.05, caps=caps)
            self._foot(side)
        hips = 0.09 * girth
        waist = self._pelvis + 0.06 * self._skeleton.up
        if kind == "skirt":
            self._skirt(waist, hips)
        else:
            bottom = self._pelvis - np.array([0.0, 0.035, 0.0])
            deep = [(0.0, 0.058 * girth), (1.0, 0.062 * girth)]
            self._add(waist, bottom, hips, deep, person.lower, across=np.eye(3)[0], caps=(0.2, 0.5))

    def _skirt(self, waist: Array, hips: float) -> None:
        """Add a skirt that spans both thighs."""
        knees = self._skeleton.joints[list(KNEE)]
        stride = abs(float(knees[0, 2] - knees[1, 2])) / 2
        end = self._pelvis + 0.9 * (knees.mean(axis=0) - self._pelvis)
        wide = [(0.0, 0.85 * hips), (0.3, 1.2 * hips), (1.0, 1.4 * hips)]
        deep = [(0.0, 0.06), (0.3, 0.082 + 0.3 * stride), (1.0, 0.078 + 1.1 * stride)]
        lower = self._person.lower
        self._add(waist, end, wide, deep, lower, across=np.eye(3)[0], caps=(0.2, 0.1), folds=0.09)

    def _foot(self, side: int) -> None:
        """Add a shoe from the heel to the toes."""
        ankle, toe = self._skeleton.joints[ANKLE[side]], self._skeleton.toes[side]
        ahead = toe - ankle
        heel = ankle - 0.2 * ahead + np.array([0.0, -0.014, 0.0])
        shoe = self._person.shoes
        self._add(ankle + np.array([0.0, 0.012, 0.0]), heel, 0.024, None, shoe)
        self._add(heel, toe, [(0.0, 0.026), (0.6, 0.029), (1.0, 0.022)], 0.021, shoe)

    def _trunk(self) -> None:
        """Add the upper wear around the trunk, and the neck."""
        person, skeleton = self._person, self._skeleton
        girth, up = self._loose, skeleton.up
        neck = skeleton.joints[NECK]
        hem = self._pelvis + (-0.035 if person.jacket else 0.012) * up
        # Shirts start below the neck joint, jackets at the collar.
        low = 0.0 if person.jacket else 0.02
        top = neck + (0.012 - low) * up
        long = float(np.linalg.norm(top - hem))
        shoulders = person.body.shoulders
        extra = 0.006 if person.jacket else 0.0
        wide = [
            (-low / long, 0.034),
            ((0.022 - low) / long, 0.058),
            ((0.044 - low) / long, shoulders * 0.97),
            ((0.12 - low) / long, shoulders * 0.5 + 0.047 * girth + extra),
            ((0.22 - low) / long, 0.085 * girth + extra),
            (0.75, 0.097 * girth + extra),
            (1.0, 0.105 * girth + extra),
        ]
        deep = [
            (-low / long, 0.036),
            ((0.05 - low) / long, 0.052 + extra),
            ((0.13 - low) / long, 0.066 * girth + extra),
            ((0.24 - low) / long, 0.062 * girth + extra),
            (0.75, 0.07 * girth + extra),
            (1.0, 0.079 * girth + extra),
        ]
        paint = trunk_paint(person, long)
        self._add(top, hem, wide, deep, person.upper, caps=(0.3, 0.12), folds=0.075, paint=paint)
        head = skeleton.head
        self._add(head - 0.035 * up, neck - 0.02 * up, 0.03, 0.033, person.skin * 0.9)
        if person.jacket:
            collar = neck + 0.03 * up
            self._add(
                collar - 0.006 * self._front, neck, 0.042, 0.042, person.upper, caps=(0.3, 0.3)
            )

    def _arms(self) -> None:
        """Add arms, sleeves, hands and what they hold."""
        person, joints = self._person, self._skeleton.joints
        thin = 0.45 + 0.55 * self._loose
        bulk = 1.14 if person.jacket else 1.04
        paint = pattern_paint(person, 0.17)
        for side, sign in enumerate(SIGN):
            shoulder = joints[SHOULDER[side]] - 0.009 * sign * self._left
            shoulder = shoulder - 0.024 * self._skeleton.up
            elbow, wrist, tip = joints[ELBOW[side]], joints[WRIST[side]], self._skeleton.tips[side]
            if person.long_sleeves:
                arm: Profile = [(0.0, 0.039 * thin * bulk), (1.0, 0.031 * thin * bulk)]
                self._add(shoulder, elbow, arm, None, person.upper, folds=0.07, paint=paint)
                arm = [(0.0, 0.031 * thin * bulk), (1.0, 0.024 * thin * bulk)]
                self._add(elbow, wrist, arm, None, person.upper, folds=0.07, paint=paint)
            else:
                arm = [(0.0, 0.032 * thin), (1.0, 0.0255 * thin)]
                self._add(shoulder, elbow, arm, None, person.skin)
                sleeve = shoulder + 0.68 * (elbow - shoulder)
                arm = [(0.0, 0.039 * thin), (1.0, 0.037 * thin)]
                self._add(
                    shoulder,
                    sleeve,
                    arm,
                    None,
                    person.upper,
                    caps=(1, 0.2),
                    folds=0.05,
                    paint=paint,
                )
                self._add(elbow, wrist, [(0.0, 0.0255 * thin), (1.0, 0.0185)], None, person.skin)
            self._add(wrist, wrist + 0.75 * (tip - wrist), 0.0165, 0.021, person.skin * 0.97)
        if self._skeleton.phone >= 0:
            tip = self._skeleton.tips[self._skeleton.phone]
            wrist = joints[WRIST[self._skeleton.phone]]
            self._add(wrist + 0.3 * (tip - wrist), tip, 0.014, 0.009, _DARK)
        if self._skeleton.boxed:
            self._carton()

    def _carton(self) -> None:
        """Add a box between both hands."""
        right, left = self._skeleton.tips
        centre = (right + left) / 2 + 0.035 * self._skeleton.up
        side, up, front = 0.085 * self._left, 0.07 * self._skeleton.up, 0.065 * self._front
        # Three pairs of thin plates, since one solid tube would have round edges. A tube must not
        # point at the camera, so the lids run along the edge that lies flatter in the image.
        seen = np.abs(self._rotation[0] @ np.stack([side, front], axis=1))
        lid = (side, up, front) if seen[0] > seen[1] else (front, up, side)
        for axis, normal, across, gain in (
            (up, front, side, 1.0),
            (up, side, front, 0.9),
            (*lid, 1.15),
        ):
            wide = float(np.linalg.norm(across))
            for face in (centre - normal, centre + normal):
                self._add(
                    face - axis,
                    face + axis,
                    wide,
                    0.004,
                    _BOX * np.float32(gain),
                    across=across / wide,
                    caps=(0, 0),
                )

    def _head(self) -> None:
        """Add head, face, hair, hat and glasses."""
        skeleton, size = self._skeleton, self._person.body.head
        left = math.cos(skeleton.gaze) * self._left - math.sin(skeleton.gaze) * self._front
        ahead = math.cos(skeleton.gaze) * self._front + math.sin(skeleton.gaze) * self._left
        frame = np.stack([left, skeleton.up, ahead])

        def at(across: float, up: float, front: float) -> Array:
            return np.asarray(skeleton.head + size * (np.array([across, up, front]) @ frame))

        add_head(self._person, at, self._add, left, size)

    def _bags(self) -> None:
        """Add backpack, shoulder bag and hand bag."""
        add_bags(self._person, self._skeleton, self._add, self._front, self._left)

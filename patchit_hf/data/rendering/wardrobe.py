"""Draw the identities of the rendered people: body, clothes, hair, bags and colours."""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from patchit_hf.data.rendering.skeleton import Body

Colour = npt.NDArray[np.float32]

COLOURS = ("black", "white", "grey", "red", "blue", "green", "yellow", "brown")
PATTERNS = ("plain", "stripes", "checks", "print")
LOWER_WEAR = ("trousers", "shorts", "skirt")
SIDES = ("right", "left")

# Ranges of hue, saturation and value of the named colours: wide, but without overlap.
_HSV = {
    "black": ((0.0, 1.0), (0.0, 0.30), (0.06, 0.14)),
    "white": ((0.0, 1.0), (0.0, 0.05), (0.86, 0.97)),
    "grey": ((0.0, 1.0), (0.0, 0.06), (0.38, 0.58)),
    "red": ((-0.02, 0.02), (0.70, 0.92), (0.50, 0.80)),
    "blue": ((0.57, 0.65), (0.50, 0.85), (0.30, 0.72)),
    "green": ((0.30, 0.42), (0.42, 0.75), (0.26, 0.56)),
    "yellow": ((0.11, 0.15), (0.55, 0.85), (0.75, 0.92)),
    "brown": ((0.05, 0.09), (0.40, 0.62), (0.28, 0.44)),
}
_SKIN = ((0.95, 0.78, 0.67), (0.89, 0.69, 0.55), (0.76, 0.56, 0.42), (0.55, 0.37, 0.26))
_HAIR = ((0.07, 0.06, 0.06), (0.22, 0.14, 0.09), (0.38, 0.24, 0.13), (0.72, 0.56, 0.32))
_HAIR_OLD = (0.62, 0.62, 0.62)


@dataclass(frozen=True)
class Person:
    """Everything that stays the same in all images of one person.

    Attributes:
        body: proportions.
        skin, hair, shoes: RGB colours [3], 0..1.
        long_hair, bald, hat, glasses, backpack: whether the person has it.
        hat_style: 0 cap with a peak, 1 woollen hat, 2 hat with a brim.
        shoulder_bag, hand_bag: side (0 right, 1 left) of the bag, or -1.
        jacket: whether the upper wear is an open or closed jacket.
        open_front: half width of the open front of a jacket, 0 if closed.
        long_sleeves: whether the sleeves reach the wrists.
        upper_colour, lower_colour: indices into `COLOURS`.
        pattern: index into `PATTERNS`.
        lower_wear: index into `LOWER_WEAR`.
        upper, accent, inner, lower, gear: RGB colours [3] of the upper wear, its pattern, the
            shirt below a jacket, the lower wear and the bags.
        hat_colour: RGB colour [3].
        phase: where the pattern starts, in 0..1.
        pitch: number of stripes or checks along the trunk.
        looseness: width of the clothes relative to the average.
    """

    body: Body
    skin: Colour
    hair: Colour
    shoes: Colour
    long_hair: bool
    bald: bool
    hat: bool
    glasses: bool
    backpack: bool
    hat_style: int
    shoulder_bag: int
    hand_bag: int
    jacket: bool
    open_front: float
    long_sleeves: bool
    upper_colour: int
    lower_colour: int
    pattern: int
    lower_wear: int
    upper: Colour
    accent: Colour
    inner: Colour
    lower: Colour
    gear: Colour
    hat_colour: Colour
    phase: float
    pitch: float
    looseness: float

    def free_hands(self) -> list[int]:
        """Return the sides (0 right, 1 left) whose hand holds no bag."""
        return [side for side in (0, 1) if side != self.hand_bag]


def _colour(name: str, rng: np.random.Generator) -> Colour:
    """Draw an RGB colour [3], 0..1, of the given name."""
    hue, saturation, value = (float(rng.uniform(*span)) for span in _HSV[name])
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def _any(rng: np.random.Generator, weights: tuple[float, ...]) -> int:
    """Draw an index with the given weights."""
    probabilities = np.asarray(weights) / sum(weights)
    return int(rng.choice(len(weights), p=probabilities))


def _side(rng: np.random.Generator, chance: float) -> int:
    """Draw a side, or -1 with probability 1 - chance."""
    return int(rng.integers(2)) if rng.random() < chance else -1


def _accent(upper: int, rng: np.random.Generator) -> Colour:
    """Draw the colour [3] of a pattern, often light on dark cloth and dark on light."""
    if rng.random() < 0.55:
        name = "white" if COLOURS[upper] not in ("white", "yellow") else "black"
    else:
        name = COLOURS[(upper + int(rng.integers(1, len(COLOURS)))) % len(COLOURS)]
    return _colour(name, rng)


def _body(rng: np.random.Generator) -> Body:
    """Draw the proportions of a person."""
    return Body(
        girth=float(np.clip(rng.normal(1.02, 0.13), 0.82, 1.4)),
        shoulders=float(rng.uniform(0.09, 0.108)),
        hips=float(rng.uniform(0.044, 0.052)),
        legs=float(rng.uniform(0.95, 1.04)),
        head=float(rng.uniform(0.95, 1.1)),
    )


@functools.lru_cache(maxsize=64)
def draw_person(seed: int, person: int) -> Person:
    """Draw the identity of a person.

    Args:
        seed: seed of the data set, at least 0.
        person: `person_id`, at least 0.

    Returns:
        The identity, the same for the same arguments. It is cached, so do not modify its arrays.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 1, person]))
    jacket = bool(rng.random() < 0.35)
    long_sleeves = jacket or bool(rng.random() < 0.35)
    upper = _any(rng, (5, 4, 3, 3, 4, 2, 2, 2))
    lower = _any(rng, (5, 1.5, 3, 0.8, 5, 1, 0.8, 2))
    pattern = 0 if jacket and rng.random() < 0.8 else _any(rng, (5, 2, 2, 2))
    hair = _HAIR_OLD if rng.random() < 0.1 else _HAIR[_any(rng, (5, 4, 3, 2))]
    long_hair = bool(rng.random() < 0.42)
    skin = _SKIN[_any(rng, (4, 4, 3, 2))]
    return Person(
        body=_body(rng),
        skin=np.array(skin, np.float32) * float(rng.uniform(0.93, 1.04)),
        hair=np.array(hair, np.float32) * float(rng.uniform(0.8, 1.25)),
        shoes=_colour(COLOURS[_any(rng, (5, 4, 2, 1, 1, 0, 0, 2))], rng),
        long_hair=long_hair,
        bald=not long_hair and bool(rng.random() < 0.08),
        hat=bool(rng.random() < 0.25),
        glasses=bool(rng.random() < 0.3),
        backpack=bool(rng.random() < 0.3),
        hat_style=int(rng.integers(3)),
        shoulder_bag=_side(rng, 0.34),
        hand_bag=_side(rng, 0.34),
        jacket=jacket,
        open_front=float(rng.uniform(0.15, 0.42)) if rng.random() < 0.55 else 0.0,
        long_sleeves=long_sleeves,
        upper_colour=upper,
        lower_colour=lower,
        pattern=pattern,
        lower_wear=_any(rng, (6, 2.5, 2) if long_hair else (7, 3, 0.15)),
        upper=_colour(COLOURS[upper], rng),
        accent=_accent(upper, rng),
        inner=_colour(COLOURS[_any(rng, (2, 5, 2, 1, 1, 1, 1, 0))], rng),
        lower=_colour(COLOURS[lower], rng),
        gear=_colour(COLOURS[_any(rng, (5, 1, 2, 3, 3, 1, 1, 4))], rng),
        hat_colour=_colour(COLOURS[_any(rng, (4, 2, 2, 3, 3, 1, 2, 1))], rng),
        phase=float(rng.random()),
        pitch=float(rng.uniform(5, 10)),
        looseness=float(rng.uniform(0.96, 1.14)),
    )

"""Patterns on the clothes of the rendered people."""

from __future__ import annotations

import numpy as np

from patchit_hf.data.rendering.tubes import Floats, Paint, noise_bank
from patchit_hf.data.rendering.wardrobe import PATTERNS, Person


def pattern_paint(person: Person, long: float) -> Paint | None:
    """Return the pattern of the upper wear on a part of the body.

    Args:
        person: the identity.
        long: length of the part in body heights, which keeps the scale of the pattern the same
            everywhere.

    Returns:
        The paint; None if plain.
    """
    name = PATTERNS[person.pattern]
    if name == "plain":
        return None
    rate = person.pitch * long / 0.34

    def paint(place: Floats, across: Floats, ahead: Floats) -> Floats:
        if name == "print":
            rows = ((place * long * 1100 + 90 * person.phase).astype(np.intp)) % 640
            turn = np.arctan2(across, ahead) * 60 * (1.6 if long > 0.2 else 0.8)
            columns = (turn.astype(np.intp) + int(500 * person.phase)) % 640
            marked = noise_bank()[1][rows, columns] > 0.45
        else:
            marked = (place * rate + person.phase) % 1.0 < 0.42
        if name == "checks":
            turn = np.arctan2(across, ahead) * (1.3 if long > 0.2 else 0.7) + person.phase
            weight = 0.5 * marked + 0.5 * (turn * 0.28 * person.pitch % 1.0 < 0.42)
            colour = person.upper + weight[:, None] * (person.accent - person.upper)
            return np.asarray(colour, np.float32)
        return np.where(marked[:, None], person.accent, person.upper)

    return paint


def trunk_paint(person: Person, long: float) -> Paint | None:
    """Return the paint of the upper wear on the trunk, with the zip or open front of a jacket.

    Args:
        person: the identity.
        long: length of the trunk in body heights.

    Returns:
        The paint; None if plain.
    """
    base = pattern_paint(person, long)
    if not person.jacket:
        return base
    zipper = person.upper * 0.55

    def front(place: Floats, across: Floats, ahead: Floats) -> Floats:
        colour = np.broadcast_to(person.upper, (len(place), 3))
        if base is not None:
            colour = base(place, across, ahead)
        gap = np.abs(across) - person.open_front * (0.6 + 0.5 * place)
        seam = (np.abs(gap) < 0.06) & (ahead > 0)
        colour = np.where(seam[:, None], zipper, colour)
        if person.open_front:
            inside = (gap < 0) & (ahead > 0) & (place < 0.9)
            colour = np.where(inside[:, None], person.inner, colour)
        return colour

    return front

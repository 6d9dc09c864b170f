"""Embedded data set of rendered person crops.

The crops are drawn on the fly, so that every recipe of this package runs offline. **They are for
trying out and testing the package. They are not a benchmark, and numbers measured on them say
nothing about photographs.**

Four to six consecutive rows show the same person, each with its own pose, view, surroundings, light
and camera. A row has these columns (N/A is -1 in every label):

==================== =========================== ==============================================
column               feature                     meaning
==================== =========================== ==============================================
`image`              `Image` (JPEG)              RGB crop, height x width pixels
`person_id`          `int64`                     identity, counted from 0
`camera`             `int64`                     camera 0..3; each has its own style
`hat`                `ClassLabel` no, yes
`glasses`            `ClassLabel` no, yes        -1 from behind
`long_hair`          `ClassLabel` no, yes
`long_sleeves`       `ClassLabel` no, yes
`backpack`           `ClassLabel` no, yes
`shoulder_bag_left`  `ClassLabel` no, yes        the person's left; -1 in view `right`
`shoulder_bag_right` `ClassLabel` no, yes        the person's right; -1 in view `left`
`hand_bag_left`      `ClassLabel` no, yes        the person's left; -1 in view `right`
`hand_bag_right`     `ClassLabel` no, yes        the person's right; -1 in view `left`
`orientation`        `ClassLabel`, `VIEWS`       front, back; left, right: faces that edge and
                                                 shows that side of the body
`upper_colour`       `ClassLabel`, `COLOURS`
`upper_pattern`      `ClassLabel`, `PATTERNS`
`lower_colour`       `ClassLabel`, `COLOURS`
`lower_wear`         `ClassLabel`, `LOWER_WEAR`
`action`             `ClassLabel`, `ACTIONS`
`keypoints`          `Array2D` (14, 3) float32   x, y in pixels of the crop and 1 where visible or
                                                 0 where hidden, in the order of `JOINTS`
==================== =========================== ==============================================

Joints follow the order of the Leeds Sports Pose data set, and right is the person's own right. In
a mirrored crop, every pair of columns that ends in `_left` and `_right` swaps, and so do the joints
of the two sides and the views `left` and `right`.
"""

from __future__ import annotations

import contextlib
import io
import math
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np

from patchit_hf.common.progress import Progress
from patchit_hf.data.rendering.camera import CAMERAS
from patchit_hf.data.rendering.skeleton import ACTIONS, JOINTS
from patchit_hf.data.rendering.staging import stage
from patchit_hf.data.rendering.wardrobe import (
    COLOURS,
    LOWER_WEAR,
    PATTERNS,
    SIDES,
    Person,
    draw_person,
)

__all__ = [
    "ACTIONS",
    "COLOURS",
    "JOINTS",
    "LOWER_WEAR",
    "PATTERNS",
    "VIEWS",
    "load_people",
    "people_features",
    "person_of",
    "render_person",
]

# Part of the cache key; raise it whenever an image or a label changes.
RENDERER_VERSION = 3
COUNTED = "PATCHIT_ROWS_DRAWN"  # names a file to which each row that is drawn adds a byte
VIEWS = ("front", "back", "left", "right")

# Images of four consecutive people; a fixed pattern keeps row -> person a closed form.
_PICTURES = (4, 5, 6, 5)
_STARTS = tuple(sum(_PICTURES[:i]) for i in range(len(_PICTURES)))
_SHARD = 100
_QUALITY = 92


def person_of(index: int) -> tuple[int, int]:
    """Return which person a row shows.

    Args:
        index: row of the data set, at least 0.

    Returns:
        `person_id`, and the index of this image among the person's images, both from 0.

    Example:
        >>> [person_of(row) for row in (0, 3, 4)]
        [(0, 0), (0, 3), (1, 0)]
    """
    block, rest = divmod(index, sum(_PICTURES))
    slot = max(i for i, start in enumerate(_STARTS) if start <= rest)
    return block * len(_PICTURES) + slot, rest - _STARTS[slot]


def people_features() -> datasets.Features:
    """Return the features of the data set; see the module's docstring."""
    yes_no: tuple[str, ...] = ("hat", "glasses", "long_hair", "long_sleeves", "backpack")
    yes_no += tuple(f"{bag}_{side}" for bag in ("shoulder_bag", "hand_bag") for side in SIDES[::-1])
    classes = {
        "orientation": VIEWS,
        "upper_colour": COLOURS,
        "upper_pattern": PATTERNS,
        "lower_colour": COLOURS,
        "lower_wear": LOWER_WEAR,
        "action": ACTIONS,
    }
    return datasets.Features(
        {
            "image": datasets.Image(),
            "person_id": datasets.Value("int64"),
            "camera": datasets.Value("int64"),
            **{name: datasets.ClassLabel(names=["no", "yes"]) for name in yes_no},
            **{name: datasets.ClassLabel(names=list(names)) for name, names in classes.items()},
            "keypoints": datasets.Array2D(shape=(len(JOINTS), 3), dtype="float32"),
        }
    )


def _at_least(name: str, value: int, lowest: int, where: str) -> None:
    """Raise a ValueError unless `value` is an integer of at least `lowest`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
        raise ValueError(f"{where}: {name} must be an integer >= {lowest}, got {value!r}")


def _view_of(yaw: float) -> str:
    """Return the name of the view nearest to a heading in radians."""
    quarter = round(yaw / (math.pi / 2)) % 4
    return ("front", "right", "back", "left")[quarter]


def _action(person: Person, rng: np.random.Generator) -> str:
    """Draw an action for which the person has enough free hands."""
    weights = np.array([0.22, 0.26, 0.12, 0.13, 0.14, 0.13])
    if person.hand_bag >= 0:
        weights[ACTIONS.index("carrying")] = 0
    return ACTIONS[int(rng.choice(len(ACTIONS), p=weights / weights.sum()))]


def _labels(person: Person, view: str) -> dict[str, int]:
    """Return the attribute labels of one image, with -1 for what this view hides."""
    labels = {
        "hat": int(person.hat),
        "glasses": -1 if view == "back" else int(person.glasses),
        "long_hair": int(person.long_hair),
        "long_sleeves": int(person.long_sleeves),
        "backpack": int(person.backpack),
        "orientation": VIEWS.index(view),
        "upper_colour": person.upper_colour,
        "upper_pattern": person.pattern,
        "lower_colour": person.lower_colour,
        "lower_wear": person.lower_wear,
    }
    for side, name in enumerate(SIDES):
        hidden = view == SIDES[1 - side]
        labels[f"shoulder_bag_{name}"] = -1 if hidden else int(person.shoulder_bag == side)
        labels[f"hand_bag_{name}"] = -1 if hidden else int(person.hand_bag == side)
    return labels


def render_person(
    index: int, *, seed: int = 0, height: int = 200, width: int = 100
) -> dict[str, Any]:
    """Draw one row of the data set.

    Args:
        index: row of the data set, at least 0.
        seed: seed of the data set, at least 0.
        height: rows of the crop, at least 32.
        width: columns of the crop, at least 16.

    Returns:
        The columns of `people_features`, with `image` as an RGB `PIL.Image.Image` of the given
        size and `keypoints` as a float32 array [14, 3]. The same arguments give the same row.

    Raises:
        ValueError: if an argument is not an integer, or too small.

    Example:
        >>> row = render_person(7, height=64, width=32)
        >>> row["image"].size, row["person_id"], row["keypoints"].shape
        ((32, 64), 1, (14, 3))
    """
    where = "render_person"
    for name, value, lowest in (
        ("index", index, 0),
        ("seed", seed, 0),
        ("height", height, 32),
        ("width", width, 16),
    ):
        _at_least(name, value, lowest, where)
    number, take = person_of(int(index))
    person = draw_person(seed, number)
    # Everybody passes all four cameras once before a camera repeats.
    order = np.random.Generator(np.random.PCG64([seed, 2, number])).permutation(len(CAMERAS))
    camera = int(order[take % len(CAMERAS)])
    rng = np.random.Generator(np.random.PCG64([seed, 3, index]))
    action = _action(person, rng)
    headings = CAMERAS[camera].yaw
    yaw = math.radians(headings[int(rng.integers(len(headings)))] + rng.normal(0, 14))
    image, keypoints = stage(person, action, yaw, CAMERAS[camera], seed, (height, width), rng)
    return {
        "image": image,
        "person_id": number,
        "camera": camera,
        **_labels(person, _view_of(yaw)),
        "action": ACTIONS.index(action),
        "keypoints": keypoints,
    }


def _rows(
    shards: list[tuple[int, int]], seed: int, height: int, width: int, version: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the shards (first row, end), with encoded images."""
    for first, end in shards:
        for index in range(first, end):
            row = render_person(index, seed=seed, height=height, width=width)
            stream = io.BytesIO()
            row["image"].save(stream, "JPEG", quality=_QUALITY, subsampling=0)
            yield {**row, "image": {"bytes": stream.getvalue(), "path": None}}
            _count_one()


def _count_one() -> None:
    """Let the process that shows the progress know of a row more, if there is one."""
    if COUNTED in os.environ:
        with open(os.environ[COUNTED], "ab", buffering=0) as file:
            file.write(b".")


@contextlib.contextmanager
def _shown(count: int) -> Iterator[None]:
    """Show how many of the rows are drawn, by any process; ``datasets`` knows no total."""
    bars = not datasets.are_progress_bars_disabled()
    with tempfile.NamedTemporaryFile() as file, Progress("drawing people", count, "crops") as shown:
        over, done = threading.Event(), 0

        def look() -> None:
            nonlocal done
            while not over.wait(0.5):
                now = os.path.getsize(file.name)
                shown.update(now - done)
                done = now

        watch = threading.Thread(target=look, daemon=True)
        os.environ[COUNTED] = file.name
        datasets.disable_progress_bars()
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()
            shown.update(os.path.getsize(file.name) - done)
            del os.environ[COUNTED]
            if bars:
                datasets.enable_progress_bars()


def _processes(num_proc: int | None, shards: int) -> int | None:
    """Return the number of processes to draw with; None draws in this process."""
    if num_proc is None:
        # A daemon, such as a worker of a data loader, must not start processes.
        daemon = multiprocessing.current_process().daemon
        # Not every operating system tells which cores this process may use.
        usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
        num_proc = 1 if daemon else min(len(usable), shards // 5)
    return min(num_proc, shards) if min(num_proc, shards) > 1 else None


def load_people(
    num_crops: int = 4000,
    *,
    seed: int = 0,
    height: int = 200,
    width: int = 100,
    num_proc: int | None = None,
) -> datasets.Dataset:
    """Load the embedded person crops; they are drawn if the cache of `datasets` lacks them.

    Args:
        num_crops: number of rows, at least 1. A longer data set begins with the same rows.
        seed: seed of identities and images, at least 0.
        height: rows of the crops, at least 32.
        width: columns of the crops, at least 16.
        num_proc: number of processes that draw, at least 1. None uses all available cores, or
            fewer for a small data set. The data do not depend on it.

    Returns:
        A data set with the columns of `people_features`.

    Raises:
        ValueError: if an argument is not an integer, or too small.

    Example:
        >>> people = load_people(5, height=64, width=32)
        >>> people[4]["image"].size, people["person_id"][:]
        ((32, 64), [0, 0, 0, 0, 1])
    """
    where = "load_people"
    _at_least("num_crops", num_crops, 1, where)
    _at_least("seed", seed, 0, where)
    _at_least("height", height, 32, where)
    _at_least("width", width, 16, where)
    if num_proc is not None:
        _at_least("num_proc", num_proc, 1, where)
    shards = [(first, min(first + _SHARD, int(num_crops))) for first in range(0, num_crops, _SHARD)]
    # The arguments are the cache key; neither the number of processes nor the code is in it.
    key = {"seed": int(seed), "height": int(height), "width": int(width)}
    with _shown(int(num_crops)):
        return datasets.Dataset.from_generator(
            _rows,
            features=people_features(),
            gen_kwargs={"shards": shards, **key, "version": RENDERER_VERSION},
            num_proc=_processes(num_proc, len(shards)),
        )

"""PARSE-27k: crops of pedestrians with attribute labels, split by sequence.

Sudowe, Spitzer and Leibe, "Person Attribute Recognition with a Jointly-trained Holistic CNN Model",
ICCV workshops 2015. The authors give out the images on request. The folder holds
``annotations.sqlite3`` and ``sequences/<directory>/<filename>``::

    python -m patchit_hf.data.parse27k PARSE_FOLDER OUTPUT_FOLDER

These crops are padded and meant for finetuning, where positions do not matter. For pretraining, cut
crops without padding by ``patchit crops``.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from patchit_hf.common.console import as_command, say
from patchit_hf.common.errors import InputError
from patchit_hf.common.files import replacing_folder
from patchit_hf.data.canvas import RESAMPLE
from patchit_hf.data.parse27k_database import CLASSES, SITTING, YES, read_people
from patchit_hf.data.pictures import BadPictureError, open_picture

# How labels change when a crop is mirrored: bags and directions swap sides.
MIRRORED_COLUMNS = {
    "HasBagOnShoulderLeft": "HasBagOnShoulderRight",
    "HasBagOnShoulderRight": "HasBagOnShoulderLeft",
    "HasBagInHandLeft": "HasBagInHandRight",
    "HasBagInHandRight": "HasBagInHandLeft",
}
MIRRORED_CLASSES = {
    "Orientation": (0, 1, 2, 4, 3),
    "Orientation8": (0, 1, 8, 7, 6, 5, 4, 3, 2),
}


def load_parse27k(
    folder: str | Path,
    *,
    size: tuple[int, int] = (128, 64),
    padding: int = 32,
    sitting: bool = False,
    missing: bool = False,
) -> Any:
    """Load the labelled crops.

    A crop has the box's height and centre and the aspect ratio of ``size``, and shows ``padding``
    more pixels of the scene on each side. Where it leaves the image, the edge pixels are repeated.

    Args:
        folder: folder of PARSE-27k.
        size: height and width of the box in the crop, in pixels.
        padding: margin around it, in pixels of the crop.
        sitting: keep the few sitting people, whom the authors left out.
        missing: code N/A as -1 and the other classes from 0, as finetuning expects missing labels
            to be coded; columns of yes and no then hold 1 and 0.

    Returns:
        A ``datasets.DatasetDict`` of ``train``, ``validation`` and ``test``, each with ``image``,
        an integer column for each of ``CLASSES`` (0 is N/A unless ``missing``),
        ``person_id`` (the pedestrian id), ``sequence``, ``file`` and ``box`` (xyxy).

    Raises:
        InputError: if the folder is not PARSE-27k, or a label or image is damaged.
    """
    folder = Path(folder).expanduser()
    base = folder / "annotations.sqlite3"
    if not base.is_file():
        raise InputError(f"{folder}: is not PARSE-27k: it has no {base.name}")
    people = read_people(base)
    state = base.stat()
    splits = {}
    for split in ("train", "validation", "test"):
        rows = [row for row in people if row["split"] == split]
        rows = [row for row in rows if sitting or row["Posture"] != SITTING]
        if rows:
            splits[split] = _make(
                folder, rows, split, size, padding, missing, (state.st_size, state.st_mtime_ns)
            )
    if splits:
        return datasets.DatasetDict(splits)
    raise InputError(f"{base}: holds no pedestrian")


def mirror_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels of the mirrored image; columns that are not attributes stay.

    Args:
        labels: classes by attribute, 0 for N/A; all attributes, or some.

    Raises:
        InputError: if one of two columns that swap is missing.

    Example:
        >>> mirror_labels({"HasBagInHandLeft": 1, "HasBagInHandRight": 2, "Orientation": 3})
        {'HasBagInHandLeft': 2, 'HasBagInHandRight': 1, 'Orientation': 4}
    """
    found = dict(labels)
    for name in labels:
        if name in MIRRORED_COLUMNS:
            other = MIRRORED_COLUMNS[name]
            if other not in labels:
                raise InputError(
                    f"{name} becomes {other} in a mirrored image, but {other} is missing"
                )
            found[name] = labels[other]
        if name in MIRRORED_CLASSES:
            found[name] = MIRRORED_CLASSES[name][labels[name]]
    return found


def padded_crop(
    picture: Image.Image, box: list[float], size: tuple[int, int], padding: int
) -> Image.Image:
    """Return a crop of height and width ``size`` plus ``padding`` on each side.

    Args:
        picture: RGB image.
        box: xyxy in pixels of the image.
        size: height and width of the box in the crop, in pixels.
        padding: margin on each side, in pixels of the crop.
    """
    height, width = size
    scale = (box[3] - box[1]) / height
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = (width / 2 + padding) * scale, (height / 2 + padding) * scale
    window = np.array([x - half[0], y - half[1], x + half[0], y + half[1]])
    frame = np.array(picture.size)
    reach = 2 * max(1.0, scale)  # of the bicubic filter
    before = np.ceil(np.clip(reach - window[:2], 0, None)).astype(int)
    after = np.ceil(np.clip(window[2:] + reach - frame, 0, None)).astype(int)
    if before.any() or after.any():
        around = [(before[1], after[1]), (before[0], after[0]), (0, 0)]
        picture = Image.fromarray(np.pad(np.asarray(picture), around, mode="edge"))
        window += np.tile(before, 2)
    x0, y0, x1, y1 = window.tolist()
    return picture.resize((width + 2 * padding, height + 2 * padding), RESAMPLE, (x0, y0, x1, y1))


def _make(
    folder: Path,
    rows: list[dict[str, Any]],
    split: str,
    size: tuple[int, int],
    padding: int,
    missing: bool,
    state: tuple[int, int],
) -> Any:
    features = {"image": datasets.Image()} | {
        name: _feature(classes, missing) for name, classes in CLASSES.items()
    }
    number, text = datasets.Value("int64"), datasets.Value("string")
    features |= {"person_id": number, "sequence": number, "file": text}
    features["box"] = datasets.Sequence(datasets.Value("float64"), length=4)
    try:
        return datasets.Dataset.from_generator(
            _crops,
            features=datasets.Features(features),
            gen_kwargs={
                "folder": str(folder), "rows": tuple(rows), "size": size, "padding": padding,
                "missing": missing, "state": state,
            },
            split=datasets.Split(split),
        )  # fmt: skip
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from error
        raise


def _feature(classes: tuple[str, ...], missing: bool) -> Any:
    if missing and classes == YES:
        return datasets.Value("int64")
    if missing and len(classes) == 3:  # the second class is the positive one
        return datasets.ClassLabel(names=[classes[2], classes[1]])
    return datasets.ClassLabel(names=list(classes[1:] if missing else classes))


def _crops(
    folder: str,
    rows: tuple[dict[str, Any], ...],
    size: tuple[int, int],
    padding: int,
    missing: bool,
    state: tuple[int, int],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split, decoding each image once; ``state`` is only for the cache key."""
    for file, people in itertools.groupby(rows, key=lambda row: row["file"]):
        several = list(people)
        try:
            picture = open_picture(Path(folder, file), 100_000_000).pixels
        except BadPictureError as error:
            person = several[0]["person_id"]
            raise InputError(f"pedestrian {person}: image {file}: {error}") from error
        for person in several:
            buffer = io.BytesIO()
            padded_crop(picture, person["box"], size, padding).save(buffer, "PNG")
            row = {key: value for key, value in person.items() if key != "split"}
            for name, classes in CLASSES.items() if missing else ():
                two = len(classes) == 3 and row[name]
                row[name] = int(row[name] == 1) if two else row[name] - 1
            image = {"bytes": buffer.getvalue(), "path": f"{person['person_id']}.png"}
            yield {"image": image, **row}


def run(argv: list[str] | None = None) -> int:
    """Write the splits as parquet files.

    Args:
        argv: arguments of the command; those of the process if None.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input.
    """
    parser = argparse.ArgumentParser(
        description="Write the labelled crops of PARSE-27k as a data set."
    )
    parser.add_argument("folder", help="folder of PARSE-27k, with annotations.sqlite3")
    parser.add_argument(
        "output", help="new folder for the data set; give it to patchit_hf.finetune --dataset"
    )
    arguments = parser.parse_args(argv)
    output = Path(arguments.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{arguments.output!r}: is not empty; give another folder")
    splits = load_parse27k(arguments.folder, missing=True)
    with replacing_folder(output.resolve(), shared=True) as draft:  # may replace an empty folder
        for name, split in splits.items():
            split.to_parquet(str(draft / f"{name}-00000-of-00001.parquet"))
            say(f"{output}: {name}: {len(split):,} crops")
    return 0


main = as_command(run, "repeat the command to start over")


if __name__ == "__main__":
    sys.exit(main())

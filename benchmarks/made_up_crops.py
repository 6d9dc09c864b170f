"""A made-up million of tiny crops: parquet shards, tar shards, or a folder of images.

The bytes of a few hundred different JPEGs are repeated, so that a million crops are made in
seconds. Each row has its own name. In the folder of images, files are hard links to a few, and take
no space.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

DIFFERENT, SHARDS, CHUNK, FOLDERS = 400, 20, 1000, 100
PER_PERSON = 10


def pictures() -> list[bytes]:
    """Return different JPEGs of 48x24 px, about 900 bytes each."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:24]
    found = []
    for _ in range(DIFFERENT):
        spots = rng.integers(-40, 40, (12, 6, 3)).repeat(4, 0).repeat(4, 1)
        pixels = np.stack([y * 4, x * 8, 255 - y * 4], -1) + spots
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=70)
        found.append(buffer.getvalue())
    return found


def picture_of(row: int) -> int:
    """Return the index of the JPEG that a row shows."""
    return row * 2654435761 % 2**32 % DIFFERENT


def name_of(row: int) -> str:
    """Return the file name of a row."""
    return f"{row:07d}.jpg"


def make_parquet(folder: Path, rows: int) -> None:
    """Write parquet shards with images and person ids, uncompressed, without dictionaries."""
    different = pictures()
    folder.mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "person_id": datasets.Value("int64")})
    schema = features.arrow_schema
    for shard in range(SHARDS):
        file = folder / f"train-{shard:05d}-of-{SHARDS:05d}.parquet"
        stop = (shard + 1) * rows // SHARDS
        with pyarrow.parquet.ParquetWriter(
            file, schema, use_dictionary=False, compression="none"
        ) as out:
            for start in range(shard * rows // SHARDS, stop, CHUNK):
                numbers = range(start, min(start + CHUNK, stop))
                content = pyarrow.array([different[picture_of(n)] for n in numbers])
                names = pyarrow.array([name_of(n) for n in numbers])
                image = pyarrow.StructArray.from_arrays([content, names], ["bytes", "path"])
                persons = pyarrow.array([n // PER_PERSON for n in numbers])
                out.write_table(
                    pyarrow.Table.from_arrays([image, persons], schema=schema),
                    row_group_size=CHUNK,
                )


def make_tars(folder: Path, rows: int) -> None:
    """Write WebDataset shards: tar files with one JPEG per sample."""
    different = pictures()
    folder.mkdir(parents=True)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"train-{shard:05d}.tar", "w") as out:
            for row in range(shard * rows // SHARDS, (shard + 1) * rows // SHARDS):
                content = different[picture_of(row)]
                entry = tarfile.TarInfo(name_of(row))
                entry.size = len(content)
                out.addfile(entry, io.BytesIO(content))


def make_pictures(folder: Path, rows: int) -> None:
    """Write a folder of images in ``FOLDERS`` subfolders, as hard links to the different JPEGs.

    Some files that are not images are among them, as in users' folders.
    """
    different = pictures()
    store = folder.with_name(f"{folder.name}-store")
    store.mkdir(parents=True)
    for i, content in enumerate(different):
        (store / f"{i}.jpg").write_bytes(content)
    for part in range(FOLDERS):
        inside = folder / f"{part:03d}"
        inside.mkdir(parents=True)
        for row in range(part * rows // FOLDERS, (part + 1) * rows // FOLDERS):
            os.link(store / f"{picture_of(row)}.jpg", inside / name_of(row))
        (inside / "Thumbs.db").write_bytes(b"\0")
    (folder / "notes.txt").write_text("Where these pictures come from.\n")

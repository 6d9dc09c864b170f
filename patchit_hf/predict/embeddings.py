"""``embed``: the features of many people by a frozen backbone, by one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchit_hf.common.draws import epoch_order
from patchit_hf.common.errors import InputError
from patchit_hf.common.hub_access import USUAL, HubAccess
from patchit_hf.common.tables import write_vectors
from patchit_hf.data.choices import parse_canvas
from patchit_hf.data.images import Images, stacked
from patchit_hf.evaluate.features import open_extractor
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.embed import STATISTICS_BATCH, Extractor, sampled
from patchit_hf.predict.arguments import EmbedArguments
from patchit_hf.predict.given import Given, Person
from patchit_hf.predict.predictions import given


@dataclass(frozen=True)
class Embeddings:
    """Features of people.

    Attributes:
        vectors: float32 ``[N, C]``.
        about: which person each row is of, by column; see ``Person.columns``.
        bad: why an image was left out, by its name.
        note: what to know about the vectors; None if nothing.
    """

    vectors: NDArray[np.float32]
    about: dict[str, list[Any]]
    bad: dict[str, str]
    note: str | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def save(self, path: str | Path) -> list[Path]:
        """Write a ``.parquet``, ``.csv`` or ``.npy`` file; the latter with names beside it.

        Returns:
            The files.
        """
        return write_vectors(Path(path), self.vectors, self.about)


def embed(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> Embeddings:
    """Return features of whole images, or of the people in boxes, by a frozen backbone.

    ``patchit embed`` in Python. For images in memory see ``PatchTaskModel.embed``.

    Args:
        model: an export or a finetuned model (a folder or ``org/name[@revision]``), or the name
            of a timm model.
        images: files, folders, patterns, videos, folders of parquet or arrow files, or Hub ids.
        revision: of the model on the Hub: branch, tag or commit.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.
        **options: further fields of ``EmbedArguments``, such as ``init``, ``detections`` or
            ``reestimate_batch_norm``.

    Raises:
        InputError: for a model, image or box that cannot be used.

    Example:
        ::

            found = embed("runs/mine", "path/to/crops", reestimate_batch_norm=True)
            found.vectors, found.about["file"]
    """
    several = [images] if isinstance(images, str | Path) else images
    names = [str(image) for image in several]
    access = HubAccess(revision, cache_dir, token)
    return embed_given(EmbedArguments(run=str(model), images=names, **options), access)


def embed_given(what: EmbedArguments, access: HubAccess = USUAL) -> Embeddings:
    """Embed as arguments say; see ``embed``."""
    extractor = _open(what, access)
    people = given(what, access)
    note = None
    if has_batch_norm(extractor.backbone):
        if what.reestimate_batch_norm:
            extractor = _reestimated(extractor, people)
        else:
            note = (
                "batch-norm statistics are those that the weights came with, of patches after a "
                "patch task; --reestimate-batch-norm takes those of these images"
            )
    found: list[Person] = []

    def canvases() -> Iterator[torch.Tensor]:
        for part in _batches(extractor, people, people, what.batch_size):
            found.extend(person for person, _ in part)
            yield stacked([pixels for _, pixels in part])

    parts = [extractor([crops]).numpy() for crops in canvases()]
    if not parts:
        raise InputError(f"IMAGES {' '.join(what.images)}: nobody to look at")
    rows = [person.columns() for person in found]
    about = {name: [row[name] for row in rows] for name in rows[0]}
    return Embeddings(np.concatenate(parts), about, people.bad, note)


def _open(what: EmbedArguments, access: HubAccess) -> Extractor:
    size = parse_canvas(what.input_size, "--input-size") if what.input_size else None
    if what.run.endswith(".safetensors"):
        raise InputError(
            f"RUN_OR_BACKBONE {what.run!r}: is a file of weights: give the name of its network, "
            f"such as resnet18, and --init {what.run}"
        )
    is_export = Path(what.run).is_dir() or "/" in what.run or ":" in what.run
    if is_export:
        return open_extractor(what.run, None, size, access)
    return open_extractor(what.init, what.run, size, access)


def _batches(
    extractor: Extractor, some: Iterable[Person], people: Given, size: int
) -> Iterator[list[tuple[Person, NDArray[np.uint8]]]]:
    """Yield people on the canvas, uint8 ``[H, W, 3]`` each, in batches."""
    part: list[tuple[Person, NDArray[np.uint8]]] = []
    for person in some:
        try:
            pixels = on_canvas(person, extractor)
        except InputError as error:
            people.leave_out(person.where, str(error).removeprefix("image 0: "))
            continue
        part.append((person, pixels))
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def on_canvas(person: Person, extractor: Extractor) -> NDArray[np.uint8]:
    """Return a person on the extractor's canvas, uint8 ``[H, W, 3]``.

    Raises:
        InputError: for an image or box that cannot be used.
    """
    images = Images([person.image])
    if person.box is None:
        return images.canvas(0, extractor.geometry.canvas, extractor.fit)
    image = images.rgb(0)
    x0, y0, x1, y1 = (round(value) for value in person.box)
    box = max(x0, 0), max(y0, 0), min(x1, image.width), min(y1, image.height)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise InputError(f"box {list(person.box)}: lies outside of the image")
    return Images([image.crop(box)]).canvas(0, extractor.geometry.canvas, extractor.fit)


def _reestimated(extractor: Extractor, people: Given) -> Extractor:
    """Return the extractor with the batch statistics of (at most 2000 of) the people."""
    chosen = set(sampled(sum(1 for _ in people)).tolist())
    some = (person for number, person in enumerate(people) if number in chosen)
    crops = [pixels for part in _batches(extractor, some, people, 64) for _, pixels in part]
    if len(crops) < 2:
        raise InputError(
            f"--reestimate-batch-norm: {len(crops)} images have no statistics; give at least 2"
        )
    order = epoch_order(0, 0, len(crops))  # mixed; see evaluate.features.reestimated
    parts = torch.as_tensor(order).split(STATISTICS_BATCH)
    return extractor.reestimated(stacked([crops[i] for i in part.tolist()]) for part in parts)

"""Several files of one export as one: each with its own images, its split and its names."""

from __future__ import annotations

from dataclasses import dataclass

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections.table import Builder, Detections


@dataclass(frozen=True)
class Part:
    """One file of an export.

    Attributes:
        found: its boxes.
        name: the file, relative to the export.
        folder: the folder that its images' names are relative to; empty for the export itself.
        split: its split; empty if unknown.
    """

    found: Detections
    name: str
    folder: str = ""
    split: str = ""


def joined(kind: str, parts: list[Part]) -> Detections:
    """Return the boxes of all parts.

    Args:
        kind: name of the format.
        parts: the files.

    Raises:
        InputError: if two files hold the same image: one may be labels and one predictions.
    """
    builder, owner = Builder(kind), dict[str, str]()
    persons: dict[str, None] = {}
    for part in parts:
        found = part.found
        persons |= dict.fromkeys(found.persons)
        for note in found.notes:
            builder.note(note)
        images = []
        for i, image in enumerate(found.images):
            name = f"{part.folder}/{image}".lstrip("/")
            if owner.setdefault(name, part.name) != part.name:
                raise InputError(
                    f"{part.name} and {owner[name]}: both hold boxes of {name}; give one of them"
                )
            other = found.others.get(image)
            images.append(
                builder.picture(
                    name,
                    (int(found.sizes[i][0]), int(found.sizes[i][1])),
                    source=found.sources[i] if found.sources else "",
                    split=part.split,
                    other=f"{part.folder}/{other}".lstrip("/") if other else "",
                )
            )
        for i in range(len(found)):
            label, track = int(found.label[i]), int(found.track[i])
            x0, y0, x1, y1 = found.boxes[i].tolist()
            builder.box(
                images[found.image[i]],
                (x0, y0, x1, y1),
                file=part.name,
                row=int(found.row[i]),
                score=float(found.score[i]),
                label=found.labels[label] if label >= 0 else None,
                track=f"{part.name}/{found.tracks[track]}" if track >= 0 else None,
            )
    return builder.done(persons=tuple(persons))

"""The data of a search: training persons without those that judge it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
from claim_figures import held_out_persons

from patchit_hf.common.errors import InputError
from patchit_hf.common.files import replacing_folder, write_json
from patchit_hf.data.source import load_crops, open_split

SHARE = 0.15
NOTE = "split.json"


def search_folder(source: str, folder: Path) -> dict[str, Any]:
    """Write the data of a search as parquet, unless it is there.

    ``train`` has the training persons that are not held out; ``validation``, which judges, the
    held-out persons and the source's own validation split, if it has one.

    Args:
        source: a folder or Hub id of crops with ``person_id``.
        folder: where to.

    Returns:
        The numbers of crops and persons.

    Raises:
        InputError: if crops have no person, or the folder was made from another source.
    """
    note = folder / NOTE
    if note.is_file():
        known: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        if known["source"] != source:
            raise InputError(
                f"{str(folder)!r}: was made from {known['source']!r}; use another --work"
            )
        return known
    crops = load_crops(source)
    train, _ = open_split(source, "train")
    if "person_id" not in train.column_names:
        raise InputError(f"{source!r}: has no column person_id")
    persons = train["person_id"][:]
    held_out = held_out_persons(persons, SHARE)
    rows: dict[bool, list[int]] = {False: [], True: []}
    for row, person in enumerate(persons):
        rows[person in held_out].append(row)
    judges = [train.select(rows[True])]
    if crops.held_out_from == "validation split":
        judges.append(crops.held_out)
    dev = datasets.concatenate_datasets(judges)
    found = {
        "source": source,
        "train_crops": len(rows[False]),
        "dev_crops": len(dev),
        "held_out_persons": len(held_out),
        "held_out_crops": len(rows[True]),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(folder) as draft:
        train.select(rows[False]).to_parquet(str(draft / "train-00000-of-00001.parquet"))
        dev.to_parquet(str(draft / "validation-00000-of-00001.parquet"))
        write_json(draft / NOTE, found)
    return found

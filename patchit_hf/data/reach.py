"""Where the images of a data set may be read: in its own folder or repository, and nowhere else.

A row of a table may name an image instead of holding it, and somebody else's table may name any
file of this machine, or an address. What a data set that is opened by name may reach is checked
before anything is read; a data set made in Python is its maker's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.compute
from huggingface_hub import DatasetCard, constants

from patchit_hf.common.errors import InputError
from patchit_hf.data.rows import column_chunks

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_INSIDE_ARCHIVES = ("zip", "tar", "gzip", "bz2", "xz", "zstd", "lz4", "filesystem")
_CHUNK = 10_000  # paths that are looked at one by one at a time


@dataclass(frozen=True)
class Reach:
    """What the images of a data set may be read from.

    Args:
        name: the data set as the user named it: a folder, or ``org/name`` on the Hub.
        allow_urls: whether its rows may also name addresses, and those of a local data set files
            outside of its folder.

    Example:
        >>> reach = Reach("/data/crops")
        >>> reach.problem("/data/crops/a/007.png") is None
        True
        >>> reach.problem("/data/crops/../../etc/passwd")
        "lies outside of the data set's folder"
    """

    name: str
    allow_urls: bool = False

    @property
    def folder(self) -> Path | None:
        """The data set's folder; None on the Hub."""
        path = Path(self.name).expanduser()
        return path if path.exists() or path.is_absolute() else None

    @property
    def _inside(self) -> tuple[str, ...]:
        """Beginnings of the local paths that are allowed."""
        if self.folder is not None:
            roots = {os.path.abspath(self.folder), os.path.realpath(self.folder)}
        else:  # what was downloaded from the Hub
            roots = {
                os.path.abspath(constants.HF_HUB_CACHE),
                os.path.abspath(datasets.config.HF_DATASETS_CACHE),
                os.path.abspath(datasets.config.DOWNLOADED_DATASETS_PATH),
            }
        return tuple(root.rstrip(os.sep) + os.sep for root in sorted(roots))

    @property
    def _repository(self) -> tuple[str, ...]:
        """Beginnings of the addresses of the data set itself."""
        if self.folder is not None:
            return ()
        return (
            f"hf://datasets/{self.name}@",
            f"hf://datasets/{self.name}/",
            f"{constants.ENDPOINT}/datasets/{self.name}/",
        )

    def problem(self, path: str) -> str | None:
        """Return why an image may not be read from a path or address; None if it may."""
        while match := _SCHEME.match(path):  # zip://a.png::zip://b.zip::/folder/c.zip
            scheme, (_, chained, rest) = match[1].lower(), path.partition("::")
            if scheme in _INSIDE_ARCHIVES and chained:
                path = rest
            elif scheme in ("file", "local"):
                path = path[match.end() :]
            elif self.allow_urls or path.startswith(self._repository):
                return None
            else:
                return "is an address, which is only read with --allow-urls"
        trusted = self.allow_urls and self.folder is not None
        if trusted or os.path.abspath(path).startswith(self._inside):
            return None
        return "lies outside of " + (
            "what was downloaded from the Hub" if self.folder is None else "the data set's folder"
        )

    def check_card(self) -> None:
        """Check the files that the card of a local folder names as the data set's.

        Raises:
            InputError: naming the first one that lies elsewhere.
        """
        folder = self.folder
        card = None if folder is None else folder / "README.md"
        if folder is None or card is None or not card.is_file():
            return
        try:
            configs = DatasetCard.load(card, ignore_metadata_errors=True).data.get("configs")
        except Exception:  # no card; whoever opens the data set says so
            return
        for config in configs if isinstance(configs, list) else ():
            known = config if isinstance(config, dict) else {}
            for path in _texts([known.get("data_files"), known.get("data_dir")]):
                whole = path if _SCHEME.match(path) else os.path.join(os.path.abspath(folder), path)
                problem = self.problem(whole)
                if problem is not None:
                    raise InputError(
                        f"--dataset {self.name!r}: its README.md names the data file {path!r}, "
                        f"which {problem}"
                    )

    def check(self, dataset: datasets.Dataset) -> None:
        """Check every image of a data set that is a path.

        Raises:
            InputError: naming the first one that may not be read.
        """
        for column, feature in dataset.features.items():
            if isinstance(feature, datasets.Image):
                for row, path in self._suspects(dataset, column):
                    self._refuse(path, f"row {row} of column {column!r}")

    def check_splits(self, splits: dict[str, Any]) -> dict[str, Any]:
        """Return splits after a check; streams are checked as they run.

        Raises:
            InputError: if an image lies where it may not be read.
        """
        for split in splits.values():
            if isinstance(split, datasets.Dataset):
                self.check(split)
        return splits

    def checked(self, stream: datasets.IterableDataset, column: str) -> datasets.IterableDataset:
        """Return a stream that raises ``InputError`` at an image that may not be read."""
        raw = stream.cast_column(column, datasets.Image(decode=False))
        return raw.filter(partial(_allowed, self, column), input_columns=[column])

    def _suspects(self, dataset: Any, column: str) -> Iterator[tuple[int, str]]:
        """Yield row and path of every image that is not plainly a file of the folder."""
        start = 0
        for chunk in column_chunks(dataset, column):
            content, paths = chunk.field("bytes"), chunk.field("path")
            if content.null_count:
                suspect = pyarrow.compute.and_(content.is_null(), paths.is_valid())
                for inside in self._inside:
                    plain = pyarrow.compute.starts_with(paths, pattern=inside)
                    suspect = pyarrow.compute.and_not(suspect, plain)
                dotted = pyarrow.compute.match_substring(paths, "..")
                found = pyarrow.compute.or_(
                    suspect, pyarrow.compute.and_(content.is_null(), dotted)
                )
                rows = pyarrow.compute.indices_nonzero(pyarrow.compute.fill_null(found, False))
                for some in range(0, len(rows), _CHUNK):
                    part = rows.slice(some, _CHUNK)
                    yield from zip(
                        (start + row for row in part.to_pylist()),
                        paths.take(part).to_pylist(),
                        strict=True,
                    )
            start += len(chunk)

    def _refuse(self, path: str, where: str) -> None:
        problem = self.problem(path)
        if problem is not None:
            raise InputError(
                f"--dataset {self.name!r}: {where} names the image {path!r}, which {problem}; "
                "put the image itself into the data set, or add --allow-urls if you trust its rows"
            )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a nested value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _allowed(reach: Reach, column: str, image: dict[str, Any] | None) -> bool:
    path = (image or {}).get("path")
    if path and (image or {}).get("bytes") is None:
        reach._refuse(str(path), f"a row of column {column!r}")
    return True


def check_links(folder: Path, what: str) -> None:
    """Check that no link in a folder leads to the folder itself or to one that holds it.

    Whoever follows such a link looks at the whole disk.

    Args:
        folder: the folder; links to other folders are followed.
        what: how an error names it, such as ``--dataset 'crops'``.

    Raises:
        InputError: naming the link.
    """
    root = os.path.realpath(folder)
    above = {root, *map(str, Path(root).parents)}
    waiting, known = [str(folder)], {root}
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            inside = [entry for entry in entries if entry.is_dir()]
        for entry in inside:
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                if target in above:
                    raise InputError(
                        f"{what}: {entry.path!r} is a link to {target!r}, which holds the folder "
                        "itself; remove the link"
                    )
                if target in known:
                    continue
                known.add(target)
            waiting.append(entry.path)

"""Re-identification: find the same person in the images of another camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.metrics.checks import check_integers, check_numbers, check_shape

RANKS = (1, 5, 10)
_GALLERY_BLOCK = 4096  # rows held in double precision at a time


class Embeddings(NamedTuple):
    """Embeddings of images of people, one row each.

    Attributes:
        features: floating ``[N, C]``.
        ids: int64 ``[N]``: a person's number from 1, 0 for a distractor, -1 for junk.
        cameras: int64 ``[N]`` from 0; -1 if unknown.
    """

    features: Tensor
    ids: Tensor
    cameras: Tensor


@dataclass(frozen=True)
class Retrieval:
    """The result of each query; queries without a correct match in the gallery are left out.

    Attributes:
        average_precision: float64 ``[Q']``.
        first_hit: int64 ``[Q']``, the rank of the first correct match, from 0.
        queries: int64 ``[Q']``, their row numbers, ascending.
        skipped: number of queries left out.
    """

    average_precision: Tensor
    first_hit: Tensor
    queries: Tensor
    skipped: int

    def summary(self, rows: Tensor | None = None) -> dict[str, float]:
        """Return ``map``, ``rank1``, ``rank5``, ``rank10``, in [0, 1]; empty without queries.

        Args:
            rows: int64, indices into the arrays above, repeats allowed; all of them by default.
        """
        precision, first = self.average_precision, self.first_hit
        if rows is not None:
            precision, first = precision[rows], first[rows]
        if not len(first):
            return {}
        ranks = {f"rank{k}": float((first < k).double().mean()) for k in RANKS}
        return {"map": float(precision.mean()), **ranks}


@torch.no_grad()
def retrieve(
    query: Embeddings, gallery: Embeddings, *, block: int = 256, same_rows: bool = False
) -> Retrieval:
    """Rank the gallery for each query by cosine similarity, under Market-1501's rules.

    Junk (id -1) is removed from the gallery, and for each query the images of the same id by the
    same camera. An unknown camera differs from every other, even from another unknown one.
    Distractors (id 0) stay as wrong matches. A query without a correct match left, which includes
    every query of id 0 or -1, is left out and counted. Images of equal similarity are ranked in
    gallery order.

    Average precision is the mean of the precisions at the correct matches, as in most papers' code.
    (The data set's own script interpolates between them by trapezia, which gives slightly less.)

    Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.

    Args:
        query: Q images.
        gallery: G images, with features of the same length.
        block: queries at a time; memory is about 30 bytes x block x G, plus the embeddings.
        same_rows: query and gallery are the same images in the same order; row i is then removed
            for query i.

    Returns:
        The result of each query.

    Raises:
        InputError: for shapes that do not match, a wrong type, NaN or an infinite feature, an id or
            a camera below -1, a block below 1, or ``same_rows`` with different ids.

    Example:
        >>> features = torch.eye(3)
        >>> ids, camera = torch.tensor([1, 2, 3]), torch.zeros(3, dtype=torch.long)
        >>> query = Embeddings(features, ids, camera)
        >>> retrieve(query, query._replace(cameras=camera + 1)).summary()["rank1"]
        1.0
    """
    for name, embeddings in (("query", query), ("gallery", gallery)):
        _check(name, embeddings)
    check_shape("gallery features", gallery.features, None, query.features.shape[1])
    if block < 1:
        raise InputError(f"block={block}: must be at least 1")
    if same_rows:
        check_shape("gallery ids, with same_rows,", gallery.ids, len(query.ids))
        if not torch.equal(query.ids, gallery.ids):
            raise InputError("same_rows: query ids differ from gallery ids: must be the same")
    scale = _inverse_norm(gallery.features)
    parts = [
        _rank_block(query, gallery, scale, torch.arange(len(query.ids))[start : start + block],
                    same_rows)
        for start in range(0, len(query.ids), block)
    ]  # fmt: skip
    if not parts:
        empty = torch.zeros(0, dtype=torch.long)
        return Retrieval(empty.double(), empty, empty, 0)
    precision, first, queries = (torch.cat(part) for part in zip(*parts, strict=True))
    return Retrieval(precision, first, queries, len(query.ids) - len(queries))


def _rank_block(
    query: Embeddings, gallery: Embeddings, scale: Tensor, rows: Tensor, same_rows: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return average precision, first hit and row number of the rows that have a correct match."""
    ids, cameras = query.ids[rows, None], query.cameras[rows, None]
    same = ids == gallery.ids
    removed = same & (cameras == gallery.cameras) & (cameras >= 0)
    removed |= gallery.ids == -1
    if same_rows:
        removed[torch.arange(len(rows)), rows] = True
    right = same & ~removed & (ids > 0)
    similarity = _similarity(query.features[rows], gallery.features, scale)
    # Removed images come last, so that ranks count only the others.
    similarity.masked_fill_(removed, -torch.inf)
    order = similarity.argsort(dim=1, descending=True, stable=True)
    row, place = right.gather(1, order).nonzero(as_tuple=True)
    hits = torch.bincount(row, minlength=len(rows))
    first = hits.cumsum(0) - hits
    precision = (torch.arange(len(row)) - first[row] + 1) / (place + 1).double()
    total = torch.zeros(len(rows), dtype=torch.float64).index_add_(0, row, precision)
    counts = hits > 0
    return total[counts] / hits[counts], place[first[counts]], rows[counts]


def _similarity(features: Tensor, gallery: Tensor, scale: Tensor) -> Tensor:
    """Return cosines of features ``[B, C]`` and gallery ``[G, C]``: float32 ``[B, G]``.

    Computed in double precision and then rounded, so that equal images are equally similar wherever
    they are in the gallery.
    """
    features = features.double() * _inverse_norm(features)[:, None]
    cosines = torch.empty(len(features), len(gallery))
    for start in range(0, len(gallery), _GALLERY_BLOCK):
        part = slice(start, start + _GALLERY_BLOCK)
        cosines[:, part] = features @ gallery[part].double().T * scale[part]
    return cosines


def _inverse_norm(features: Tensor) -> Tensor:
    """Return 1 / length of rows ``[N, C]``: float64 ``[N]``, 0 for a row of zeros."""
    norms = torch.linalg.vector_norm(features, dim=1, dtype=torch.float64)
    return torch.where(norms > 0, 1 / norms, 0.0)


def _check(name: str, embeddings: Embeddings) -> None:
    features, ids, cameras = embeddings
    check_shape(f"{name} features", features, None, None)
    check_shape(f"{name} ids", ids, len(features))
    check_shape(f"{name} cameras", cameras, len(features))
    check_numbers(f"{name} features", features)
    if bool(features.isinf().any()):
        raise InputError(f"{name} features: infinite: must be finite")
    check_integers(f"{name} ids", ids, -1)
    check_integers(f"{name} cameras", cameras, -1)

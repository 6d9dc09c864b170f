"""A map of embeddings: what is alike lies together, with a thumbnail where there is room."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from patchit_hf.common.errors import InputError
from patchit_hf.figures.page import BLUE, MARGIN, Array, Page, page_width, photo, with_look

METHODS = ("pca", "tsne", "umap")
NAMES = {"pca": "the two main axes (PCA)", "tsne": "t-SNE", "umap": "UMAP"}
THUMB = 34  # width of a thumbnail, in pixels
DOT = 4  # side of the dot of a crop without one


def flat(vectors: Array, method: str = "pca") -> Array:
    """Return vectors on a plane, float64 ``[N, 2]``, in [0, 1].

    Args:
        vectors: ``[N, C]``, at least three.
        method: ``pca``, ``tsne`` (scikit-learn's), or ``umap``, where umap-learn is installed.

    Raises:
        InputError: for another method, or one that is not installed, or too few vectors.

    Example:
        >>> flat(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]))[:, 0].round(3).tolist()
        [0.0, 0.5, 1.0]
    """
    if method not in METHODS:
        raise InputError(f"--map {method!r}: must be one of {', '.join(METHODS)}")
    if len(vectors) < 3:
        raise InputError(f"--map: {len(vectors)} crops have no map; at least 3 are needed")
    centred = vectors.astype(np.float64) - vectors.mean(0)
    if method == "pca":
        left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
        points = left[:, :2] * sizes[:2]
        points = points * np.where(points[np.abs(points).argmax(0), [0, 1]] < 0, -1, 1)
    elif method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        points = TSNE(2, perplexity=perplexity, random_state=0, init="pca").fit_transform(centred)
    else:
        if find_spec("umap") is None:
            raise InputError("--map umap: needs umap-learn; pip install umap-learn, or --map tsne")
        import umap

        points = umap.UMAP(2, random_state=0).fit_transform(centred)
    low, high = points.min(0), points.max(0)
    places: Array = (points - low) / np.maximum(high - low, 1e-12)
    return places


@with_look
def embedding_map(crops: Tensor, places: Array, method: str = "pca") -> Figure:
    """Draw a map with a thumbnail of each crop that no other one would cover.

    Args:
        crops: uint8 ``[N, 3, H, W]``.
        places: of each crop, in [0, 1], ``[N, 2]``.
        method: how the places were found.
    """
    canvas = (crops.shape[2], crops.shape[3])
    tall = THUMB * canvas[0] / canvas[1]
    side = page_width() - 2 * MARGIN
    page = Page(
        0.75 * side,
        "Which crops are alike for the backbone",
        f"Features of {len(crops):,} held-out crops, laid out by {NAMES[method]}. What lies "
        "together is alike.\nA dot is a crop whose thumbnail would cover another.",
    )
    x = MARGIN + places[:, 0] * (side - THUMB)
    y = (1 - places[:, 1]) * (0.75 * side - tall)
    shown: list[int] = []
    for number in range(len(crops)):
        near = np.array(shown, np.int64)
        apart = (np.abs(x[near] - x[number]) >= THUMB) | (np.abs(y[near] - y[number]) >= tall)
        if apart.all():
            shown.append(number)
    for number in shown:
        page.picture(photo(crops[number]), x[number], y[number], THUMB, canvas)
    dot = np.zeros((1, 1, 3)) + np.array([int(BLUE[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    for number in set(range(len(crops))) - set(shown):
        left, top = x[number] + THUMB / 2, y[number] + tall / 2
        page.picture(dot, left, top, DOT, (1, 1))
    return page.finish()

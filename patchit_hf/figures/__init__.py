"""Figures of a run: its questions, its answers, where it is right, and how it learnt.

``patchit figures RUN`` draws them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.figures.answered import localisation as localisation
    from patchit_hf.figures.arguments import FiguresArguments as FiguresArguments
    from patchit_hf.figures.asked import labelled_patches as labelled_patches
    from patchit_hf.figures.body import accuracy_on_body as accuracy_on_body
    from patchit_hf.figures.body import confusion_on_body as confusion_on_body
    from patchit_hf.figures.body import mean_crop as mean_crop
    from patchit_hf.figures.curve import learning_curve as learning_curve
    from patchit_hf.figures.draw import SHOWS_PEOPLE as SHOWS_PEOPLE
    from patchit_hf.figures.draw import draw_figures as draw_figures
    from patchit_hf.figures.files import as_image as as_image
    from patchit_hf.figures.files import as_png as as_png
    from patchit_hf.figures.files import write_figures as write_figures
    from patchit_hf.figures.filters import first_layer_filters as first_layer_filters
    from patchit_hf.figures.map import embedding_map as embedding_map
    from patchit_hf.figures.search import nearest as nearest
    from patchit_hf.figures.search import neighbours as neighbours
    from patchit_hf.figures.search import ranks as ranks
    from patchit_hf.figures.together import put_together as put_together

__getattr__, __dir__ = lazily(
    __name__,
    {
        "FiguresArguments": "patchit_hf.figures.arguments",
        "SHOWS_PEOPLE": "patchit_hf.figures.draw",
        "accuracy_on_body": "patchit_hf.figures.body",
        "as_image": "patchit_hf.figures.files",
        "as_png": "patchit_hf.figures.files",
        "confusion_on_body": "patchit_hf.figures.body",
        "draw_figures": "patchit_hf.figures.draw",
        "embedding_map": "patchit_hf.figures.map",
        "first_layer_filters": "patchit_hf.figures.filters",
        "labelled_patches": "patchit_hf.figures.asked",
        "learning_curve": "patchit_hf.figures.curve",
        "localisation": "patchit_hf.figures.answered",
        "mean_crop": "patchit_hf.figures.body",
        "nearest": "patchit_hf.figures.search",
        "neighbours": "patchit_hf.figures.search",
        "put_together": "patchit_hf.figures.together",
        "ranks": "patchit_hf.figures.search",
        "write_figures": "patchit_hf.figures.files",
    },
)

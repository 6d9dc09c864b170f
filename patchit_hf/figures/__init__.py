"""Figures of a run: its questions, its answers, where it is right, and how it learnt."""

from patchit_hf.figures.answered import localisation
from patchit_hf.figures.asked import labelled_patches
from patchit_hf.figures.body import accuracy_on_body, confusion_on_body, mean_crop
from patchit_hf.figures.curve import learning_curve
from patchit_hf.figures.draw import SHOWS_PEOPLE, draw_figures
from patchit_hf.figures.files import as_image, as_png, write_figures
from patchit_hf.figures.filters import first_layer_filters
from patchit_hf.figures.together import put_together

__all__ = [
    "SHOWS_PEOPLE",
    "accuracy_on_body",
    "as_image",
    "as_png",
    "confusion_on_body",
    "draw_figures",
    "first_layer_filters",
    "labelled_patches",
    "learning_curve",
    "localisation",
    "mean_crop",
    "put_together",
    "write_figures",
]

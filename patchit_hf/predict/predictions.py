"""``predict``: a finetuned model and many people, by one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError
from patchit_hf.common.hub_access import USUAL, HubAccess
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.predict.answers import Answer, Answers, answered
from patchit_hf.predict.arguments import GivenArguments, PredictArguments
from patchit_hf.predict.given import Given
from patchit_hf.training.accelerator import device


def predict(
    model: str | Path | FinetunedModel,
    images: str | Path | Sequence[str | Path],
    *,
    draw: str | Path | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> Answers:
    """Let a finetuned model look at images, folders, videos, data sets or boxes.

    ``patchit predict`` in Python. For images in memory see ``FinetunedModel.predict``.

    Args:
        model: a folder, ``org/name[@revision]`` on the Hub, or a model that is loaded.
        images: files, folders, patterns, videos, folders of parquet or arrow files, or Hub ids.
        draw: a folder for copies of the images with the answers drawn in.
        revision: of the model on the Hub: branch, tag or commit.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.
        **options: further fields of ``PredictArguments``, such as ``detections``, ``split``,
            ``every`` or ``on_bad_image``.

    Returns:
        An answer for each person; ``save`` writes them as the command does.

    Raises:
        InputError: for a model, image or box that cannot be used.

    Example:
        ::

            found = predict("runs/attributes-people", "path/to/crops", draw="drawn")
            found.save("found.parquet")
            found.answers[0].result.probabilities["hat"]
    """
    several = [images] if isinstance(images, str | Path) else images
    what = PredictArguments(
        images=[str(image) for image in several],
        draw=None if draw is None else str(draw),
        **{key: _plain(value) for key, value in options.items()},
    )
    return predict_given(what, model, HubAccess(revision, cache_dir, token))


def predict_given(
    what: PredictArguments, model: str | Path | FinetunedModel = "", access: HubAccess = USUAL
) -> Answers:
    """Predict as arguments say; see ``predict``."""
    if isinstance(model, FinetunedModel):
        access.refuse_revision("model")
        loaded = model
    else:
        loaded = FinetunedModel.from_pretrained(model or what.run, **access.options())
        loaded = loaded.to(device())
    people = given(what, access, getattr(loaded.task, "box_column", None))
    drawing = None
    if what.draw is not None:
        from patchit_hf.predict.drawing import Drawing

        drawing = Drawing(what.draw)
    answers = []
    for person, result in answered(loaded, people, what.batch_size):
        answers.append(Answer(person.columns(), result))
        if drawing is not None:
            drawing.add(person, result)
    if drawing is not None:
        drawing.finish()
    if not answers:
        raise InputError(f"IMAGES {' '.join(what.images)}: nobody to look at")
    return Answers(answers, people.bad, 0 if drawing is None else len(drawing.files))


def given(what: GivenArguments, access: HubAccess = USUAL, box_column: str | None = None) -> Given:
    """Return the people that arguments name."""
    own = {"bad", "skip_bad", "box_column", "access"}
    names = {item.name for item in dataclasses.fields(Given)} - own
    return Given(
        **{name: getattr(what, name) for name in names},
        box_column=box_column,
        access=dataclasses.replace(access, revision=None),  # that of the model
        skip_bad=what.on_bad_image == "skip",
    )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value

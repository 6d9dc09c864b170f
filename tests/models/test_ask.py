"""The questions about one crop: those of an evaluation, and drawn as they were answered."""

import numpy as np
import pytest
import torch

from patchit_hf import InputError, PatchTaskModel, create_task
from patchit_hf.common.draws import EVAL_SEED, Draws
from patchit_hf.data.canvas import to_canvas
from patchit_hf.figures import as_image, put_together
from patchit_hf.models.build import build_model
from tests.conftest import make_crops

CANVAS = (50, 25)
SMALL = {"rows": 3, "cols": 2, "patch_size": 8, "jitter": 2}


def model_of(name="position", **options) -> PatchTaskModel:
    return build_model("test_resnet", create_task(name, CANVAS, **SMALL, **options), seed=0)


def test_answers_are_those_of_an_evaluation():
    model, image = model_of(), make_crops(1, 70, 30)[0]
    crop = torch.from_numpy(to_canvas(image, CANVAS, "squash").copy()).permute(2, 0, 1)
    asked = model.train().ask(image, rounds=6)
    assert model.training
    assert torch.equal(asked.crop, crop)
    model.eval()
    for number in range(6):
        batch = model.task.sample_all(crop[None], Draws(EVAL_SEED, torch.tensor([number])))
        with torch.inference_mode():
            answered = model.task.answers(model(batch.inputs))
        assert torch.equal(asked.truth[number], batch.targets)
        assert torch.equal(asked.answered[number], answered)
    first = model.task.sample_all(crop[None], Draws(EVAL_SEED, torch.tensor([0]))).inputs
    assert asked.patches.shape == (6, 8, 8, 3)
    assert torch.equal(asked.patches, model.task.transform.colours(first))
    wrong = sum(
        (a != b) for a, b in zip(asked.truth.flatten(), asked.answered.flatten(), strict=True)
    )
    assert asked.accuracy == pytest.approx(1 - wrong / 36)
    assert asked.confusion.sum() == 36
    assert asked.confusion.trace() == 36 - wrong
    assert torch.equal(asked.confusion.sum(1), torch.full((6,), 6))


def test_what_is_put_together_shows_the_answers():
    asked = model_of().ask(make_crops(1)[0])
    drawn = as_image(put_together(asked))
    assert drawn.shape[1] == 1000
    right = type(asked)(**{**vars(asked), "answered": asked.truth})
    assert np.abs(as_image(put_together(right)).astype(int) - drawn).max() > 50


def test_what_cannot_be_asked():
    model = model_of()
    with pytest.raises(InputError, match="image: 2 images; ask about one at a time"):
        model.ask(make_crops(2))
    with pytest.raises(InputError, match="rounds 0: must be a whole number of at least 1"):
        model.ask(make_crops(1)[0], rounds=0)
    with pytest.raises(InputError, match="the image: not a readable image"):
        model.ask(b"none")
    with pytest.raises(InputError, match="no places on the crop"):
        put_together(model_of("pair").ask(make_crops(1)[0]))
    model.task = None
    with pytest.raises(InputError, match="this model has no task"):
        model.ask(make_crops(1)[0])

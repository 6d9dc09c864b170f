import pytest
import torch
from torch import nn

from patchit_hf.common.errors import InputError
from patchit_hf.training.optim import create_optimizer, lr_at

RUN = {"max_steps": 100, "learning_rate": 2.0, "warmup_steps": 10}


def test_warmup_is_linear_and_the_first_step_learns():
    assert [lr_at(s, **RUN) for s in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])


def test_cosine_ends_near_zero():
    assert lr_at(55, **RUN) == pytest.approx(1.0)
    assert 0 < lr_at(99, **RUN) < 0.001


def test_linear_constant_and_step():
    assert lr_at(55, **RUN, schedule="linear") == pytest.approx(1.0)
    assert lr_at(99, **RUN, schedule="constant") == 2.0
    step = {**RUN, "schedule": "step", "steps_per_epoch": 10, "step_epochs": 2, "step_factor": 0.5}
    assert [lr_at(s, **step) for s in (10, 19, 20, 40, 99)] == [2.0, 2.0, 1.0, 0.5, 0.125]


def test_decay_spares_biases_and_norms():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = create_optimizer(model, "adamw", 1e-3, 0.1).param_groups
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(model[0].weight)}


def test_sgd_is_nesterovs():
    group = create_optimizer(nn.Linear(2, 2), "sgd", 0.1, 0.0, momentum=0.9).param_groups[0]
    assert group["nesterov"]
    assert group["momentum"] == 0.9


def test_frozen_weights_are_left_out():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    groups = create_optimizer(model, "sgd", 0.1, 0.0).param_groups
    assert [p is model.weight for g in groups for p in g["params"]] == [True]


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="--optimizer 'adamww': timm has no such optimiser"):
        create_optimizer(nn.Linear(2, 2), "adamww", 0.1, 0.0)
    with pytest.raises(InputError, match="--optimizer-args"):
        create_optimizer(nn.Linear(2, 2), "adamw", 0.1, 0.0, banana=1)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lion", "adafactor", "muon"])
def test_every_optimiser_that_is_recommended_follows_the_gradient(name):
    torch.manual_seed(0)
    model, x = nn.Linear(8, 4), torch.randn(16, 8)
    model.bias.requires_grad_(False)
    bias, goal = model.bias.clone(), torch.randn(16, 4)
    optimizer = create_optimizer(model, name, 1e-2, 0.0)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (model(x) - goal).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert torch.equal(model.bias, bias)

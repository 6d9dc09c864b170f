"""Muon's orthogonalisation on the CPU against timm's own, in double precision."""

import copy
import functools

import pytest
import timm.optim.muon as theirs
import torch

from patchit_hf.training.optim import create_optimizer
from patchit_hf.training.orthogonal import orthogonalize

_THEIRS = theirs.zeropower_via_newtonschulz
QUINTIC = theirs._COEFFICIENTS["quintic"]


def matrix(shape, condition):
    """A matrix whose singular values fall from 1 to 1/condition."""
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(*shape, generator=generator).double(), False)
    values = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), u.shape[-1])
    return ((u * values.double()) @ v).float()


@pytest.mark.parametrize("condition", [1.5, 30.0, 1e4])
@pytest.mark.parametrize("kind", list(theirs._COEFFICIENTS))
@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (9, 16, 64), (24, 24), (24, 47), (8, 16)])
def test_it_is_what_timm_makes_of_it(shape, kind, condition):
    given, coefficients = matrix(shape, condition), theirs._COEFFICIENTS[kind]
    for steps in (1, 3, 5):
        wanted = _THEIRS(given, steps, coefficients, dtype=torch.float64)
        found = orthogonalize(given, steps, coefficients)
        assert found.dtype == torch.float32
        if condition < 100:
            torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-5)
        rough = (_THEIRS(given, steps, coefficients).double() - wanted).abs().max()
        assert (found.double() - wanted).abs().max() < rough / 50  # of bfloat16


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (24, 24)])
@pytest.mark.parametrize("left", [1, 5, 12])
def test_columns_of_zeros_stay_zeros_and_change_nothing(shape, left):
    given = matrix(shape, 3.0)
    zeros = torch.randperm(shape[1], generator=torch.Generator().manual_seed(left))[left:]
    given[:, zeros] = 0
    wanted = _THEIRS(given, 5, QUINTIC, dtype=torch.float64)
    found = orthogonalize(given, 5, QUINTIC)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-5)
    assert not found[:, zeros].any()
    given[0, zeros[0]] = torch.nan
    assert orthogonalize(given, 5, QUINTIC).isnan().any()


def test_on_a_map_of_one_position_only_the_middle_of_a_kernel_learns():
    torch.manual_seed(0)
    net = torch.nn.Conv2d(8, 16, 3, padding=1, bias=False)
    before = net.weight.detach().clone()
    optimizer = create_optimizer(net, "muon", 0.1, 0.0)
    net(torch.randn(5, 8, 1, 1)).square().sum().backward()
    optimizer.step()
    moved = net.weight.detach() != before
    assert moved[:, :, 1, 1].all()
    assert moved.sum() == 16 * 8


def test_eps_and_safety_factor_and_no_gradient():
    given = matrix((4, 32), 2.0) * 1e-9
    for options in ({"eps": 1e-7}, {"safety_factor": 1.5}, {"eps": 1e-7, "scale_eps": True}):
        wanted = _THEIRS(given, 5, QUINTIC, **options, dtype=torch.float64)
        torch.testing.assert_close(orthogonalize(given, 5, QUINTIC, **options).double(), wanted)
    assert not orthogonalize(torch.zeros(4, 32), 5, QUINTIC).any()


@pytest.mark.parametrize("name", ["muon", "adamuon", "nmuon"])
def test_a_step_is_that_of_timm_in_double_precision(name, monkeypatch):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Flatten(), torch.nn.Linear(16, 6))
    other = copy.deepcopy(net)
    ours = create_optimizer(net, name, 0.01, 0.1)
    plain = timm_optimizer(other, name)
    for _ in range(3):
        x = torch.randn(5, 8, 3, 3)
        for model, optimizer in ((net, ours), (other, plain)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
        ours.step()
        assert theirs.zeropower_via_newtonschulz is _THEIRS  # others' optimisers are left alone
        with monkeypatch.context() as patch:
            exact = functools.partial(_THEIRS, dtype=torch.float64)
            patch.setattr(theirs, "zeropower_via_newtonschulz", exact)
            plain.step()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-4)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_step_that_fails_leaves_timm_as_it_was(error):
    """Torch calls no hooks after such a step."""

    def closure():
        raise error

    net = torch.nn.Linear(8, 16)
    optimizer = create_optimizer(net, "muon", 0.01, 0.0)
    with pytest.raises(type(error)):
        optimizer.step(closure)
    assert theirs.zeropower_via_newtonschulz is _THEIRS


def test_a_copy_of_the_optimiser_and_one_with_its_state_go_on_alike():
    torch.manual_seed(0)
    net = torch.nn.Linear(32, 16)
    optimizer = create_optimizer(net, "muon", 0.01, 0.1)
    x = torch.randn(64, 32)  # as many as the gradient's rank needs
    net(x).square().sum().backward()
    optimizer.step()
    both, other = copy.deepcopy((net, optimizer)), copy.deepcopy(net)
    loaded = create_optimizer(other, "muon", 0.01, 0.1)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, stepped in ((net, optimizer), both, (other, loaded)):
        stepped.zero_grad()
        model(x).square().sum().backward()
        stepped.step()
        assert torch.equal(model.weight, net.weight)
        assert type(stepped) is type(optimizer)


def timm_optimizer(model, name):
    from timm.optim import create_optimizer_v2

    options = {"nesterov": True} if name == "muon" else {}
    return create_optimizer_v2(model, opt=name, lr=0.01, weight_decay=0.1, **options)

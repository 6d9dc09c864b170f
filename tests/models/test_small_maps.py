"""Convolutions on small maps: the numbers of torch's own, forward and backward."""

import copy

import pytest
import timm
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from patchit_hf.models import small_maps as small_map_convolution
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.small_maps import SmallMapConvolutions


class Called(TorchDispatchMode):
    """Counts convolutions."""

    def __init__(self):
        super().__init__()
        self.convolutions = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.convolutions += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


# (map, kernel, stride, padding). Chosen from 519 combinations by which of 49 deliberate errors in
# the module (an index off by one, height and width confused, a bias left out, a bound moved) each
# one finds: of those that find an error three were kept, or as many as there are.
CASES = [
    ((1, 1), 1, 1, 0),
    ((1, 1), 1, 1, 1),
    ((1, 1), 1, 1, (1, 0)),
    ((1, 1), 3, 1, 1),
    ((1, 1), 3, 2, 1),
    ((1, 1), 4, 1, 3),
    ((1, 1), 4, 2, 3),
    ((1, 2), 3, 1, 1),
    ((1, 2), (3, 1), 1, (1, 0)),
    ((2, 2), 1, 2, 0),
    ((2, 2), 3, 1, 1),
    ((2, 2), 3, 2, 1),
    ((2, 2), (3, 1), 2, (1, 0)),
    ((3, 1), 3, 1, 1),
    ((3, 1), 7, 2, 3),
    ((3, 2), (5, 2), 1, (2, 0)),  # covered, and just too many products
    ((4, 4), 4, 1, 0),
    ((4, 4), 7, 1, 3),
    ((4, 4), 7, 2, 3),
]


def _as_torch(layer, size):
    """Assert that a layer's output and gradients are torch's; return output and convolutions."""
    x = torch.randn(3, 6, *size, dtype=torch.float64, requires_grad=True)
    theirs = layer(x)
    wanted = torch.autograd.grad(theirs.square().sum(), (x, layer.weight, layer.bias))
    with SmallMapConvolutions(), Called() as called:
        ours = layer(x)
    found = torch.autograd.grad(ours.square().sum(), (x, layer.weight, layer.bias))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found, wanted)
    return theirs, called.convolutions


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), CASES)
def test_it_is_the_convolution(size, kernel, stride, padding, groups):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(6, 6 if groups > 1 else 7, kernel, stride, padding, groups=groups)
    layer = layer.double()
    theirs, convolutions = _as_torch(layer, size)
    positions = theirs.shape[2] * theirs.shape[3]
    few = positions * size[0] * size[1] <= 16
    thin = groups == kernel == 1 and stride == 2  # see below
    assert convolutions == (0 if thin or (few and _covered(layer, size)) else 1)


def _covered(layer, size):
    """Whether every input position meets a tap from every output position, by trying them."""
    shape = (1, layer.in_channels, *size)
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    output = torch.nn.functional.conv2d(
        x, torch.ones_like(layer.weight), None, layer.stride, layer.padding, 1, layer.groups
    )
    reached = [torch.autograd.grad(v, x, retain_graph=True)[0][0, 0] for v in output[0, 0].ravel()]
    return all(bool((r != 0).all()) for r in reached)


WIDE_CASES = [  # chosen like CASES
    ((4, 2), 1, 1, 0),
    ((4, 2), 1, 1, 1),
    ((4, 2), 1, 1, (1, 0)),
    ((4, 2), 2, 1, 0),
    ((4, 2), 2, (2, 1), 1),
    ((4, 2), (3, 1), (2, 1), (1, 0)),
    ((8, 4), 2, 1, 1),
    ((8, 4), 3, 1, 1),
    ((8, 4), (3, 1), 1, 1),
    ((8, 4), (3, 1), 1, (1, 0)),
    ((5, 7), 2, 1, 1),
    ((5, 7), (3, 1), (2, 1), (1, 0)),
    ((6, 3), 3, 2, 1),
    ((9, 4), 4, 2, 1),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), WIDE_CASES)
def test_wide_ones_gather_what_each_position_sees(monkeypatch, size, kernel, stride, padding):
    monkeypatch.setattr(small_map_convolution, "WIDE", 0)
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(6, 7, kernel, stride, padding).double()
    theirs, convolutions = _as_torch(layer, size)
    few = kernel != 1 and theirs.shape[2] * theirs.shape[3] <= 32
    assert convolutions == (0 if few else 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1), (2, 3)])
def test_a_kernel_larger_than_the_map_is_torchs_own_error(monkeypatch, size):
    monkeypatch.setattr(small_map_convolution, "WIDE", 0)
    with pytest.raises(RuntimeError, match="Kernel size"), SmallMapConvolutions():
        torch.nn.Conv2d(6, 7, 5)(torch.randn(3, 6, *size))


@pytest.mark.parametrize(("channels", "size", "stays"), [(384, 4, 0), (128, 4, 1), (384, 8, 1)])
def test_wide_is_a_kernel_of_a_million_weights_on_a_small_map(channels, size, stays):
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    x = torch.randn(2, channels, size, size).to(memory_format=torch.channels_last)
    with torch.no_grad(), SmallMapConvolutions(), Called() as called:
        ours = layer(x)
    assert called.convolutions == stays
    torch.testing.assert_close(ours, layer(x), atol=1e-4, rtol=1e-4)
    assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", [{"groups": 3}, {"dilation": 2, "padding": 2}])
def test_other_convolutions_are_called_as_they_are(options):
    layer = torch.nn.Conv2d(6, 6, 3, **{"padding": 1, **options})
    x = torch.randn(2, 6, 1, 1)
    with SmallMapConvolutions(), Called() as called:
        ours = layer(x)
    assert called.convolutions == 1
    torch.testing.assert_close(ours, layer(x))


def test_words_for_padding_and_pictures_without_a_batch():
    x = torch.randn(5, 1, 1)
    for layer in (torch.nn.Conv2d(5, 7, 3, padding="same"), torch.nn.Conv2d(5, 7, 3, padding=1)):
        with SmallMapConvolutions():
            torch.testing.assert_close(layer(x), layer(x[None])[0])


@pytest.mark.parametrize("size", [(32, 32), (128, 64)])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "convnext_atto"])
def test_networks_give_the_same_features_and_gradients(name, size):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0).double().eval()
    ours = copy.deepcopy(theirs)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    theirs(x).square().sum().backward()
    with SmallMapConvolutions():
        ours(x).square().sum().backward()
    for (key, p), q in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=key)


@pytest.mark.parametrize("head", [None, torch.nn.Flatten()])
def test_finetuning_has_them_too(head):
    model = FinetunedModel(timm.create_model("resnet10t", num_classes=3), head).eval()
    x = torch.rand(1, 3, 128, 64)
    with torch.no_grad(), Called() as called:
        model(x)
    layers = sum(isinstance(layer, torch.nn.Conv2d) for layer in model.modules())
    assert called.convolutions == layers - 2  # the two 3x3 ones of the last stage


@pytest.mark.parametrize(
    ("channels", "stride", "padding", "bias"),
    [(3, 2, 0, False), (4, (2, 1), 0, True), (5, 3, 1, True), (15, (1, 2), (1, 0), False)],
)
def test_strided_1x1_convolutions_on_few_channels(channels, stride, padding, bias):
    """torch's own has a wrong gradient on some CPUs, so it is not even called."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(channels, 6, 1, stride, padding, bias=bias).double()
    x = torch.randn(2, channels, 9, 8, dtype=torch.float64, requires_grad=True)
    wanted = layer(x)
    leaves = [x, *layer.parameters()]
    gradients = torch.autograd.grad(wanted.square().sum(), leaves)
    layer.to(memory_format=torch.channels_last)
    with SmallMapConvolutions(), Called() as called:
        found = layer(x.contiguous(memory_format=torch.channels_last))
    assert called.convolutions == 0
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), leaves), gradients)

"""The self-consistent convolution is the dense layer on every patch."""

import pytest
import torch
from torch import nn

from netprobe.defenses.sca import SCAConv2d, SCALinear
from netprobe.errors import NetprobeError

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64
KINDS = {
    "plain": ({"kernel_size": 3}, 1),
    "padded": ({"kernel_size": 3, "padding": 1}, 1),
    "oblong": ({"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 0)}, 1),
    "dilated": ({"kernel_size": 3, "dilation": 2, "padding": 2}, 1),
    "same": ({"kernel_size": 4, "padding": "same"}, 1),
    "valid": ({"kernel_size": 3, "padding": "valid"}, 1),
    "reflected": ({"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, 1),
    "tiles of outputs": ({"kernel_size": 3, "padding": 1}, 2),
    "tiles of outputs, two pixels apart": ({"kernel_size": 3, "stride": 2, "padding": 1}, 2),
}


def layer_and_images(kind, **settings):
    options, patch = KINDS[kind]
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, **options, dtype=torch.float64)
    return conv, SCAConv2d(conv, patch=patch, **settings), torch.rand(4, 2, 8, 8, dtype=torch.float64)


def placed(conv, x):
    """The input padded as the convolution pads it."""
    extent = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    named = {"same": [e // 2 for e in extent], "valid": [0, 0]}
    top, left = named[conv.padding] if isinstance(conv.padding, str) else conv.padding
    rest = [e - start for e, start in zip(extent, (top, left), strict=True)] if conv.padding == "same" else (top, left)
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return nn.functional.pad(x, (left, rest[1], top, rest[0]), mode)


@pytest.mark.parametrize("kind", KINDS)
def test_every_patch_settles_as_the_dense_layer_does_on_it(kind):
    conv, layer, x = layer_and_images(kind, steps=3, cap=0.3)
    dense = SCALinear(nn.Linear(layer.features, layer.units, dtype=torch.float64), steps=3, cap=0.3)
    for name in ("lateral", "lateral_bias", "feedback", "feedback_bias"):
        setattr(dense, name, getattr(layer, name))
    found, before, padded, p = layer(x), conv(x), placed(conv, x), layer.patch
    assert found.shape == before.shape
    for row in range(0, found.shape[2], p):
        for column in range(0, found.shape[3], p):
            top, left = row * conv.stride[0], column * conv.stride[1]
            high, wide = (g * (w - 1) + 1 for g, w in zip(conv.dilation, layer.window, strict=True))
            seen = padded[:, :, top : top + high : conv.dilation[0], left : left + wide : conv.dilation[1]].flatten(1)
            here = before[:, :, row : row + p, column : column + p].flatten(1)
            dense.weight = nn.Parameter(torch.zeros_like(dense.weight))  # s_0 is that of the convolution
            expected = torch.cat([_settled(dense, *pair) for pair in zip(seen.split(1), here.split(1), strict=True)])
            torch.testing.assert_close(found[:, :, row : row + p, column : column + p].flatten(1), expected, **EXACT)


def _settled(dense, seen, here):
    dense.bias = nn.Parameter(here[0].detach())
    return dense(seen)


@pytest.mark.parametrize("kind", KINDS)
def test_without_steps_it_is_the_convolution_bit_for_bit(kind):
    conv, layer, x = layer_and_images(kind, steps=0)
    assert torch.equal(layer(x), conv(x).relu())


@pytest.mark.parametrize("kind", ["padded", "tiles of outputs, two pixels apart"])
def test_gradients_by_differences(kind):
    _, layer, x = layer_and_images(kind, steps=2)
    assert torch.autograd.gradcheck(layer, x[:1].requires_grad_())
    layer.float()(x.float()).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in layer.parameters())


def test_the_energy_of_rows_falls():
    _, layer, x = layer_and_images("padded", steps=20, eta=0.1)
    inputs, _ = layer.rows(x)
    found = [layer.energies(inputs, a)["energy"] for a, _ in layer.trajectory(x)]
    assert (torch.stack(found).diff(dim=0) <= 0).all()


def test_channels_last_changes_nothing_but_rounding():
    _, layer, x = layer_and_images("padded", steps=3)
    found = layer.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, layer_and_images("padded", steps=3)[1](x), **EXACT)


def test_what_cannot_be_cut_into_patches_is_named():
    with pytest.raises(NetprobeError, match="groups=1 is needed"):
        SCAConv2d(nn.Conv2d(2, 4, 3, groups=2))
    with pytest.raises(NetprobeError, match="where patch is above 1"):
        SCAConv2d(nn.Conv2d(2, 4, 3, dilation=2), patch=2)
    with pytest.raises(NetprobeError, match=r"patches of 4 x 4 do not tile outputs of \(6, 6\)"):
        SCAConv2d(nn.Conv2d(2, 4, 3), patch=4)(torch.rand(1, 2, 8, 8))

"""The decoder: sizes, and its first layer summed coefficient by coefficient."""

import pytest
import torch
from torch.nn.functional import conv_transpose2d, interpolate, relu

from netprobe.defenses.sparse_coding import Code, Decoder
from netprobe.defenses.sparse_coding import transpose as transposes
from netprobe.defenses.sparse_coding.transpose import CodeTranspose
from netprobe.errors import NetprobeError


def a_code(across=3, atoms=48, kept=3, images=2):
    drawn = torch.Generator().manual_seed(4)
    index = torch.rand(images, across, across, atoms, generator=drawn).argsort(-1)[..., :kept]
    values = torch.randn(index.shape, generator=drawn, dtype=torch.float64)
    return Code(values, index, atoms)


def test_the_dense_code_has_every_value_where_it_belongs():
    code = a_code()
    dense = code.dense()
    assert dense.shape == (2, 48, 3, 3)
    assert dense.is_contiguous(memory_format=torch.channels_last)
    assert (dense != 0).sum() == code.values.numel()
    assert dense[1, code.index[1, 0, 2, 1], 0, 2] == code.values[1, 0, 2, 1]


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 1), (4, 4), (6, 2), (1, 1)])
def test_summing_coefficients_is_the_transposed_convolution(kernel, stride):
    torch.manual_seed(0)
    layer, code = CodeTranspose(48, 5, kernel, stride).double(), a_code()
    assert layer._worth_summing(code)
    code.values.requires_grad_()
    expected = conv_transpose2d(code.dense(), layer.weight, layer.bias, stride)
    found = layer(code)
    torch.testing.assert_close(found, expected)
    upstream, inputs = torch.randn_like(expected), (layer.weight, layer.bias, code.values)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("kernel", "stride", "kept"), [(5, 2, 3), (4, 2, 4)])
def test_it_convolves_where_blocks_do_not_tile_or_many_coefficients_are_there(kernel, stride, kept):
    layer, code = CodeTranspose(48, 5, kernel, stride).double(), a_code(kept=kept)
    assert not layer._worth_summing(code)
    torch.testing.assert_close(layer(code), conv_transpose2d(code.dense(), layer.weight, layer.bias, stride))


def test_in_a_reduced_precision_it_convolves():
    code = a_code()
    code = Code(code.values.bfloat16(), code.index, code.atoms)
    assert CodeTranspose(48, 5, 4, 2).bfloat16()(code).dtype == torch.bfloat16


@pytest.mark.parametrize("how", ["summed", "dense"])
def test_images_of_32_pixels(how, monkeypatch):
    monkeypatch.setattr(transposes, "SPARSE", 1 if how == "summed" else 10**6)
    torch.manual_seed(0)
    decoder = Decoder(size=32, atoms=48, widths=(8, 4)).double()
    code = a_code(across=15)
    out = relu(conv_transpose2d(code.dense(), decoder.first.weight, decoder.first.bias, 2))
    assert out.shape[2:] == (32, 32)
    out = relu(conv_transpose2d(out, decoder.second.weight, decoder.second.bias))
    out = relu(conv_transpose2d(out, decoder.third.weight, decoder.third.bias))
    assert out.shape[2:] == (36, 36)
    torch.testing.assert_close(decoder(code), out[:, :, 2:34, 2:34].clamp(0, 1))


def test_images_of_160_pixels():
    torch.manual_seed(0)
    decoder = Decoder(size=160, patch=8, stride=4, atoms=48, upsampling="bicubic", widths=(8, 4)).double()
    code = a_code(across=39, images=1)
    out = relu(conv_transpose2d(code.dense(), decoder.first.weight, decoder.first.bias))
    assert out.shape[2:] == (41, 41)
    out = interpolate(out, (162, 162), mode="bicubic")
    for layer in (decoder.second, decoder.third):
        out = relu(conv_transpose2d(out, layer.weight, layer.bias))
    assert out.shape[2:] == (166, 166)
    torch.testing.assert_close(decoder(code), out[:, :, 3:163, 3:163].clamp(0, 1))


def test_patches_that_do_not_tile_are_refused_before_anything_is_made():
    with pytest.raises(NetprobeError, match=r"patches of 4 pixels, 3 apart, do not tile images of 32.*stride=1 or 2"):
        Decoder(size=32, stride=3)

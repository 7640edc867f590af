"""The operator of a layer against the layer itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from unrolled import LAYERS, circulant, layer, matrix, operator, reference

from netprobe.defenses.hah import NormalizedConv2d
from netprobe.errors import NetprobeError
from netprobe.weights.operators import disagreement, operator_of

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")

every_layer = pytest.mark.parametrize("name", LAYERS)


def rows_of(op) -> np.ndarray:
    """Its matrix, by what it does to unit vectors."""
    basis = torch.eye(op.columns, dtype=torch.float64).reshape(-1, op.columns // np.prod(op.input_size), *op.input_size)
    return op.apply(basis).flatten(1).T.numpy()


@every_layer
def test_it_is_the_layers_own_matrix(name):
    module, shape = layer(name)
    op, expected = operator(module, shape), matrix(module, shape).numpy()
    transposed = getattr(module, "transposed", False)
    np.testing.assert_allclose(rows_of(op), expected.T if transposed else expected, rtol=0, atol=1e-14)
    assert (op.rows, op.columns) == rows_of(op).shape
    assert disagreement(module, op, shape) < 1e-14


@every_layer
def test_adjoint_by_inner_products(name):
    op = operator(*layer(name))
    x = torch.randn(3, op.weight.shape[1] * op.groups, *op.input_size, dtype=torch.float64)
    y = torch.randn(3, op.weight.shape[0], *op.output_size, dtype=torch.float64)
    torch.testing.assert_close((op.apply(x) * y).flatten(1).sum(1), (x * op.adjoint(y)).flatten(1).sum(1))
    small = torch.randn(1, *op.small_shape, dtype=torch.float64)
    assert small.numel() == op.count == min(op.rows, op.columns)
    assert op.backward(op.forward(small)).shape == small.shape


@every_layer
def test_frobenius_norm_and_kernel_bound(name):
    module, shape = layer(name)
    op, values = operator(module, shape), reference(module, shape)
    assert op.frobenius == pytest.approx(np.linalg.norm(values), rel=1e-12)
    assert op.kernel_bound >= values[0] * (1 - 1e-12)


def test_kernel_bound_by_hand():
    """Four taps that all are 1: the reshaped kernel has norm 2, and the operator at most sqrt(4) * 2 = 4."""
    op = operator_of(nn.Conv2d(1, 1, 2, padding=1, padding_mode="circular"), (1, 3, 3), (1, 4, 4))
    ones = dataclasses.replace(op, weight=torch.ones(1, 1, 2, 2))
    assert ones.kernel_bound == pytest.approx(4, rel=1e-14)
    assert np.linalg.norm(circulant(ones.made_circular()), 2) == pytest.approx(4, rel=1e-14)  # reached by constants


@pytest.mark.parametrize(
    "name", ["plain", "strided", "dilated and strided", "grouped and strided", "1-D", "transposed"]
)
def test_made_circular_is_the_circulant_matrix(name):
    op = operator(*layer(name)).made_circular()
    shifted = dataclasses.replace(op, before=(0,) * op.axes)  # the definition without its shift
    np.testing.assert_allclose(rows_of(shifted), circulant(op), rtol=0, atol=1e-14)
    assert op.periodic


def test_a_stride_that_does_not_divide_has_no_circular_operator():
    with pytest.raises(NetprobeError, match=r"stride 2 does not divide the input size 7.*padding='own'"):
        operator(*layer("stride that does not divide")).made_circular()


def test_periodic_only_where_the_grid_closes():
    periodic = {name for name in LAYERS if operator(*layer(name)).periodic}
    assert periodic == {name for name in LAYERS if name.startswith("circular")} - {"circular, growing"}


def test_padding_modes_that_are_not_understood():
    module = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")
    with pytest.raises(NetprobeError, match="'reflect' is neither"):
        operator_of(module, (1, 4, 4), (1, 4, 4))


def test_a_layer_may_say_which_weights_inputs_meet():
    torch.manual_seed(0)
    module = NormalizedConv2d(2, 5, 3, padding=1, bias=False).double()
    op = operator(module, (2, 6, 7))
    np.testing.assert_allclose(rows_of(op), matrix(module, (2, 6, 7)).numpy(), rtol=0, atol=1e-14)
    assert disagreement(module, op, (2, 6, 7)) < 1e-14
    assert not torch.allclose(op.weight, module.weight)


def test_a_forward_that_does_more_than_its_weight_is_noticed():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight - self.weight.mean(), None, self.stride, self.padding)

    class Cropped(nn.Conv2d):
        def forward(self, x):
            return super().forward(x)[..., 1:]

    for build in (Standardised, Cropped):
        module = build(2, 3, 3, padding=1).double()
        assert disagreement(module, operator_of(module, (2, 5, 4), (3, 5, 4)), (2, 5, 4)) > 1e-2

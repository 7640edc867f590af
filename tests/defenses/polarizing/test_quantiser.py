"""The quantiser: levels, ties, and the gradients that attacks may take for its own."""

import pytest
import torch

from netprobe.defenses.quantiser import quantise

A = torch.linspace(-2, 2, 401, dtype=torch.float64)


def derivative(function, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(function(at).sum(), at)[0]


def test_three_levels():
    expected = [-1 if a < -0.5 else 1 if a > 0.5 else 0 for a in A[abs(abs(A) - 0.5) > 1e-9]]
    assert quantise(A[abs(abs(A) - 0.5) > 1e-9], (-0.5, 0.5)).tolist() == expected


def test_on_a_threshold_it_is_between_two_levels():
    assert quantise(torch.tensor([-0.5, 0.5]), (-0.5, 0.5)).tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("thresholds", [(0.1,), (-0.7, 0.0, 0.3), (-0.5, -0.25, 0.25, 0.5)])
def test_any_number_of_levels_one_apart(thresholds):
    clear = torch.stack([abs(A - c) > 1e-9 for c in thresholds]).all(0)
    expected = [sum(a > c for c in thresholds) - len(thresholds) / 2 for a in A[clear].tolist()]
    assert quantise(A[clear], thresholds).tolist() == expected


def test_its_own_gradient_is_zero():
    assert not derivative(lambda a: quantise(a, (-0.5, 0.5)), A).any()


@pytest.mark.parametrize("surrogate", ["smooth", "identity"])
def test_a_surrogate_leaves_the_value_alone(surrogate):
    assert torch.equal(quantise(A.clone().requires_grad_(), (-0.3, 0.3), surrogate), quantise(A, (-0.3, 0.3)))


@pytest.mark.parametrize("sharpness", [2.0, 8.0, 16.0])
def test_the_smooth_gradient_is_that_of_two_hyperbolic_tangents(sharpness):
    found = derivative(lambda a: quantise(a, (-0.5, 0.5), "smooth", sharpness), A)
    steep = [1 / torch.cosh(sharpness * (A - c)) ** 2 for c in (-0.5, 0.5)]
    torch.testing.assert_close(found, sharpness * (steep[0] + steep[1]) / 2)


def test_the_identity_passes_gradients_through():
    assert (derivative(lambda a: quantise(a, (-0.5, 0.5), "identity"), A) == 1).all()

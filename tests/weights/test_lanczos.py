"""Distributions, norms, leading values and bounds from convolutions alone, against all values of the dense operator."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from unrolled import LAYERS, layer, operator, reference

from netprobe.errors import NetprobeError
from netprobe.weights import krylov, lanczos
from netprobe.weights.bounds import enclosing, upper_bounds
from netprobe.weights.dense import exact_values
from netprobe.weights.fourier import fourier_values
from netprobe.weights.krylov import extreme_values
from netprobe.weights.lanczos import lanczos_values
from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import distance


def conv(c_in: int, c_out: int, n: int, kernel: int = 3, **options) -> ConvOperator:
    torch.manual_seed(0)
    module = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False, **options)
    return operator(module, (c_in, n, n))


def dead() -> ConvOperator:
    """Half of the filters are zero: so is half of the spectrum."""
    op = conv(12, 12, 8)
    op.weight[:6] = 0
    return op


MEDIUM = {
    "plain": lambda: conv(8, 8, 10),
    "wide": lambda: conv(16, 8, 9),
    "strided": lambda: conv(8, 20, 12, stride=2),
    "large kernel": lambda: conv(6, 6, 10, 5),
    "depthwise": lambda: conv(12, 12, 8, groups=12),
    "dead filters": dead,
    "circular": lambda: conv(8, 8, 10).made_circular(),
}
every_medium = pytest.mark.parametrize("name", MEDIUM)


@every_medium
@pytest.mark.parametrize("settings", [{}, {"probes": 1}, {"steps": 12}, {"probes": 8, "steps": 80}])
def test_the_distribution_is_within_its_stated_error(name, settings):
    op = MEDIUM[name]()
    true = exact_values(op)
    for seed in range(3):
        found = lanczos_values(op, seed=seed, norm=False, **settings)
        assert found.count == pytest.approx(true.count)
        apart = distance(found, true) / true.largest
        assert apart < found.error
        assert found.error < 0.1  # and it states something


@every_medium
def test_the_norm_is_right_to_1e_5(name):
    op = MEDIUM[name]()
    true = exact_values(op).largest
    for seed in range(3):
        assert lanczos_values(op, steps=8, seed=seed).largest == pytest.approx(true, rel=1e-5)


@pytest.mark.parametrize(
    ("seen", "alone", "settled"),
    [
        ([(1.0, 0.9e-5)], False, True),  # proven
        ([(1.0, 2e-5)], False, False),  # nothing is known of its growth
        ([(1 - 9e-6, 1e-4), (1 - 3e-6, 9e-5), (1.0, 5e-5)], False, True),
        ([(1 - 9e-6, 1e-4), (1 - 3e-6, 9e-5), (1.0, 5e-5)], True, False),  # one vector can miss a value
        ([(1 - 2e-5, 1e-4), (1 - 3e-6, 9e-5), (1.0, 5e-5)], False, False),  # still growing
        ([(1.0, 2e-3), (1.0, 2e-3), (1.0, 2e-3)], False, False),  # a pause, and a long residual
    ],
)
def test_when_a_norm_is_known_well_enough(seen, alone, settled):
    assert lanczos._settled(seen, alone) is settled


def test_the_second_moment_is_that_of_the_frobenius_norm():
    """1 %: the distribution is cut into pieces, interpolated, and its top replaced by the norm."""
    for build in MEDIUM.values():
        op = build()
        found = lanczos_values(op)
        assert np.sqrt(found.multiplicity @ np.square(found.values)) == pytest.approx(op.frobenius, rel=0.01)


def test_a_value_of_high_multiplicity_stays_a_step():
    """Interpolated over the gap above them, half of the 384 zeros would move."""
    op = dead()
    values = lanczos_values(op).values
    assert (values < 1e-3 * values[0]).mean() == pytest.approx(0.5, abs=0.03)


def test_orthogonal_and_zero_operators():
    """One value only: the Krylov space ends after a step, and nothing is made of the rounding that is left."""
    module = nn.Conv2d(6, 6, 1, bias=False)
    module.weight.data[..., 0, 0] = torch.linalg.qr(torch.randn(6, 6))[0]
    found = lanczos_values(operator(module, (6, 5, 5)))
    np.testing.assert_allclose(found.values, 1, rtol=1e-5)
    nothing = dataclasses.replace(operator(module, (6, 5, 5)), weight=torch.zeros(6, 6, 1, 1))
    assert not lanczos_values(nothing).values.any()


def test_same_seed_same_numbers_and_other_seeds_others():
    op = MEDIUM["plain"]()
    one, same, other = (lanczos_values(op, seed=seed).values for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


# leading values


@pytest.fixture
def no_shortcut(monkeypatch):
    """Even small operators by Krylov spaces."""
    monkeypatch.setattr(krylov, "SMALL", 100)


@every_medium
def test_leading_values_to_1e_5(name, no_shortcut):
    op = MEDIUM[name]()
    true, found = exact_values(op), extreme_values(op, 20)
    np.testing.assert_allclose(found.leading, true.leading(20), rtol=1e-5)
    assert (found.leading_error <= 1e-5 * found.leading).all()


@every_medium
def test_leading_values_to_1e_10_in_float64(name, no_shortcut):
    op = MEDIUM[name]().to(torch.float64)
    found = extreme_values(op, 7, tolerance=1e-10)
    np.testing.assert_allclose(found.leading, exact_values(op, "full").leading(7), rtol=1e-10)


def test_restarts(no_shortcut, monkeypatch):
    monkeypatch.setattr(krylov, "LARGEST_BASIS", 48)
    op = MEDIUM["large kernel"]()
    np.testing.assert_allclose(extreme_values(op, 6, memory=1).leading, exact_values(op).leading(6), rtol=1e-5)


@pytest.mark.parametrize("copies", [2, 5, 8])
def test_repeated_values_are_found_as_often_as_they_occur(copies, no_shortcut):
    """Identical groups: every value occurs `copies` times."""
    one = conv(1, 1, 12)
    weight = one.weight.expand(copies, 1, 3, 3).clone()
    op = dataclasses.replace(one, weight=weight, groups=copies)
    expected = np.repeat(exact_values(one).leading(6), copies)[:12]
    np.testing.assert_allclose(extreme_values(op, 12).leading, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_both_ends_of_small_layers(name):
    module, shape = layer(name)
    expected, found = reference(module, shape), extreme_values(operator(module, shape), 6)
    np.testing.assert_allclose(found.leading, expected[:6], rtol=1e-9)
    known = np.isfinite(found.trailing)
    np.testing.assert_allclose(found.trailing[known], expected[::-1][: len(known)][known], rtol=1e-3)


def test_smallest_values_that_did_not_converge_are_not_given(no_shortcut):
    op = MEDIUM["plain"]()
    assert exact_values(op).trailing(1)[0] < 1e-2 * exact_values(op).largest
    assert np.isnan(extreme_values(op, 5).trailing).all()
    easy = conv(2, 14, 16)  # many outputs for every input: no small values
    found, true = extreme_values(easy, 5), exact_values(easy).trailing(5)
    known = np.isfinite(found.trailing)
    np.testing.assert_allclose(found.trailing[known], true[known], rtol=1e-3)


# bounds


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", [name for name in LAYERS if "circular" not in name])
def test_every_value_is_below_its_bound_and_above_the_interlacing_one(name):
    module, shape = layer(name)
    op, expected = operator(module, shape), reference(module, shape)
    larger = enclosing(op)
    bounds = fourier_values(larger).expanded()
    assert (bounds[: len(expected)] >= expected - 1e-12).all()
    deleted = larger.rows - op.rows + larger.columns - op.columns
    below = bounds[deleted : deleted + len(expected)]
    assert (below <= expected[: len(below)] + 1e-12).all()  # the submatrix is what it should be, not merely smaller
    assert (upper_bounds(op).expanded()[: len(expected)] >= expected).all()


def test_the_enclosing_grid_is_as_small_as_can_be():
    assert enclosing(conv(2, 2, 8)).input_size == (9, 9)
    assert enclosing(conv(2, 2, 8, 5)).input_size == (10, 10)
    assert enclosing(conv(2, 2, 8, stride=2)).input_size == (10, 10)
    assert enclosing(operator(nn.Conv2d(2, 2, 3), (2, 8, 8))).input_size == (8, 8)


def test_only_zero_padding_has_such_bounds():
    with pytest.raises(NetprobeError, match="zero-padded"):
        enclosing(conv(2, 2, 8).made_circular())


def test_convolution_calls_alone(monkeypatch):
    """Nothing of the size of the matrix: at 64 x 56 x 56 it would have 4e10 entries."""
    op = conv(8, 8, 56)
    calls = []
    monkeypatch.setattr(ConvOperator, "apply", _counted(ConvOperator.apply, calls))
    lanczos_values(op, probes=2, steps=5, norm=False)
    assert calls == [2] * 5
    assert lanczos.probes_for(op.count) == 2


def _counted(method, calls: list):
    def counted(self, x):
        calls.append(len(x))
        return method(self, x)

    return counted

"""The fused float32 routines against the same quantities in float64 by torch, one operation at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from netprobe.probing import fused, reductions
from netprobe.probing.streaming import Moments

ROUNDING = (
    2e-6  # a difference of float32 numbers is rounded to 6e-8, sums of up to 2048 of them to about ten times that
)


def reference_norms(flat: torch.Tensor) -> torch.Tensor:
    """(condition, n, units) -> (n, condition, 3)."""
    changes = torch.stack([flat[0], *(x - flat[0] for x in flat[1:])]).double()
    norms = torch.stack([changes.abs().sum(-1), changes.square().sum(-1).sqrt(), changes.abs().amax(-1)], -1)
    return norms.transpose(0, 1)


def reference_hoyer(rows: torch.Tensor) -> torch.Tensor:
    """(condition, n, L, C) -> (n, condition, 2)."""
    out = []
    for image in rows.double().transpose(0, 1).flatten(0, 1):
        live = [x for x in image if x.any()]
        ratios = [float((x.abs().sum() ** 2 / x.square().sum() - 1) / (len(x) - 1)) for x in live]
        out.append([np.mean(ratios) if live else math.nan, 1 - len(live) / len(image)])
    return torch.tensor(out, dtype=torch.float64).unflatten(0, (rows.shape[1], rows.shape[0]))


@pytest.mark.parametrize("units", [1, 7, fused.PIECE, fused.PIECE + 1, 5 * fused.PIECE + 3])
@pytest.mark.parametrize("conditions", [1, 2, 4])
def test_norms(conditions, units):
    flat = torch.randn(conditions, 3, units)
    torch.testing.assert_close(fused.condition_norms(flat), reference_norms(flat), rtol=ROUNDING, atol=0)


def test_norms_of_a_million_numbers_keep_their_digits():
    """Summed in float32 alone a million equal numbers would be off by a per cent or so."""
    flat = torch.full((1, 1, 10**6), 0.1)
    expected = torch.tensor([1e5, 100.0, 0.1]).double() * float(flat[0, 0, 0]) / 0.1
    torch.testing.assert_close(fused.condition_norms(flat)[0, 0], expected, rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("columns", [fused.L2, slice(0, 2), [2, 0]])
def test_norms_that_are_asked_for(columns):
    rows = torch.randn(2, 3, 7, 5)
    expected = reference_norms(rows.flatten(2))[..., columns]
    torch.testing.assert_close(fused.condition_norms(rows, columns), expected, rtol=ROUNDING, atol=0)
    torch.testing.assert_close(fused.norms_and_hoyer(rows, columns)[0], expected, rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1.0, 1e18, 1e30])
def test_scale_does_not_matter(scale):
    """Squares of numbers below 1e-23 or above 1e19 leave float32, but the sums are taken in float64 then."""
    flat, rows = torch.randn(2, 2, 50), torch.randn(2, 3, 4, 8)
    scaled = fused.condition_norms(flat * scale)
    torch.testing.assert_close(scaled, reference_norms(flat * scale), rtol=ROUNDING, atol=0)
    torch.testing.assert_close(fused.location_hoyer(rows * scale), reference_hoyer(rows), rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows(bad):
    flat = torch.randn(2, 2, 5000)
    flat[0, 0, 4500] = bad
    norms = fused.condition_norms(flat)
    torch.testing.assert_close(norms, reference_norms(flat), rtol=ROUNDING, atol=0, equal_nan=True)
    assert not norms[0].isfinite().any()
    assert norms[1].isfinite().all()
    hoyer = fused.location_hoyer(flat.view(2, 2, 500, 10))
    assert hoyer[0, 0, 0].isnan()
    assert hoyer[1].isfinite().all()
    assert hoyer[:, 1].isfinite().all()


@pytest.mark.parametrize("channels", [2, 3, 16, 64, 513])
def test_sparsity(channels):
    rows = torch.randn(2, 2, 6, channels)
    rows[0, 0, ::2] = 0
    rows[0, 1] = 0
    rows[1, 0, :, 1:] = 0
    ours = fused.location_hoyer(rows)
    torch.testing.assert_close(ours, reference_hoyer(rows), rtol=ROUNDING, atol=1e-7, equal_nan=True)
    assert ours[0, 1, 0] == pytest.approx(0, abs=1e-7)


def test_one_channel_has_no_sparsity():
    assert fused.location_hoyer(torch.rand(2, 2, 3, 1))[..., 0].isnan().all()


@pytest.mark.parametrize("conditions", [1, 2, 3])
@pytest.mark.parametrize(("locations", "channels"), [(1, 5), (300, 16), (7, 513), (2, fused.PIECE + 1)])
@pytest.mark.parametrize("scale", [1.0, 1e-35, 1e30])
def test_norms_and_sparsity_from_one_reading(conditions, locations, channels, scale):
    rows = scale * torch.randn(conditions, 3, locations, channels)
    rows[0, 1, ::2] = 0
    norms, hoyer = fused.norms_and_hoyer(rows)
    torch.testing.assert_close(norms, reference_norms(rows.flatten(2)), rtol=ROUNDING, atol=0)
    torch.testing.assert_close(hoyer, reference_hoyer(rows), rtol=ROUNDING, atol=0, equal_nan=True)


def test_centring():
    rows, shift, total = torch.randn(100, 5), torch.randn(5).double(), torch.ones(5).double()
    out = torch.empty(100, 5, dtype=torch.float64)
    fused.centre(rows.T.contiguous().T, shift, out, total)  # any strides
    assert torch.equal(out, rows.double() - shift)
    torch.testing.assert_close(total, 1 + out.sum(0), rtol=1e-12, atol=1e-12)


def test_moments_take_float32_as_they_take_float64():
    rows = torch.randn(1000, 7) + 100
    single, double = Moments(7), Moments(7)
    single.update(rows)
    double.update(rows.double())
    torch.testing.assert_close(single.covariance, double.covariance, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(single.mean, double.mean, rtol=1e-14, atol=0)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads, monkeypatch):
    monkeypatch.setattr(fused, "SHARE", 10)
    flat, rows = torch.randn(2, 5, 3000), torch.randn(2, 5, 40, 16)
    alone = fused.condition_norms(flat), fused.location_hoyer(rows)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(alone[0], fused.condition_norms(flat))
    assert torch.equal(alone[1], fused.location_hoyer(rows))


def test_only_float32_on_the_cpu():
    assert fused.fits(torch.zeros(1))
    assert not fused.fits(torch.zeros(1, dtype=torch.float64))
    assert not fused.fits(torch.zeros(1, device="meta"))


def test_float32_and_float64_agree_through_the_reductions():
    flat, rows = torch.randn(3, 4, 500), torch.randn(3, 4, 20, 8)
    for orders in (reductions.ORDERS, ("2",), ("inf", "1")):
        ours, reference = reductions.condition_norms(flat, orders), reference_norms(flat)
        columns = [reductions.ORDERS.index(order) for order in orders]
        torch.testing.assert_close(ours, reference[..., columns], rtol=ROUNDING, atol=0)
    double = reductions.location_hoyer(rows.double())
    torch.testing.assert_close(reductions.location_hoyer(rows), double, rtol=ROUNDING, atol=0)
    for orders in (reductions.ORDERS, ("2",), ("inf", "1")):
        ours = reductions.norms_and_hoyer(rows, orders)
        torch.testing.assert_close(ours, reductions.norms_and_hoyer(rows.double(), orders), rtol=ROUNDING, atol=0)


def test_it_works_where_nothing_can_be_kept_on_disk(monkeypatch):
    def refuse(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return original(*args, **options)

    original = fused.numba.njit
    monkeypatch.setattr(fused.numba, "njit", refuse)
    assert fused.compiled(lambda x: x + 1)(1) == 2

"""Block Golub-Kahan-Lanczos: the relations that define it, and the norms that it is there for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from unrolled import operator

from netprobe.weights import lanczos
from netprobe.weights.bidiagonal import Bidiagonalisation, random_start
from netprobe.weights.dense import exact_values
from netprobe.weights.operators import ConvOperator


@pytest.fixture
def conv() -> ConvOperator:
    """More outputs than inputs, in float64."""
    torch.manual_seed(0)
    return operator(nn.Conv2d(4, 6, 3, padding=1, bias=False), (4, 5, 6)).to(torch.float64)


def kept(op: ConvOperator, groups: int, block: int, steps: int) -> tuple[Bidiagonalisation, torch.Tensor, torch.Tensor]:
    """A run and all of its vectors, V (group, column, element) and U."""
    run = Bidiagonalisation(op, random_start(op, groups, block, 0))
    v, u = [], []
    for _ in range(steps):
        v.append(run.v.clone())
        run.step()
        u.append(run.u.clone())
    return run, torch.cat(v, 1), torch.cat(u, 1)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_the_matrix_is_the_operator_in_two_orthonormal_bases(conv, block):
    run, v, u = kept(conv, 2, block, 6)
    b = run.matrix()
    assert b.shape == (2, 6 * block, 6 * block)
    assert not np.tril(b, -1).any() and not np.triu(b, block + 1).any()
    for basis in (v, u):  # short runs stay orthogonal
        torch.testing.assert_close(basis @ basis.mT, torch.eye(6 * block).double().expand(2, -1, -1), atol=1e-9, rtol=0)
    for group in range(2):
        there = conv.forward(v[group].reshape(-1, *conv.small_shape)).flatten(1)
        torch.testing.assert_close(there, torch.from_numpy(b[group]).mT @ u[group], atol=1e-9, rtol=0)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_residuals_of_the_leading_values(conv, block):
    run, v, u = kept(conv, 1, block, 6)
    left, theta, right = np.linalg.svd(run.matrix()[0])
    found, residual = run.leading(3)
    np.testing.assert_allclose(found[0], theta[:3], rtol=1e-10)
    back = conv.backward((torch.from_numpy(left.T[:3].copy()) @ u[0]).reshape(3, 6, 5, 6)).flatten(1)
    missing = back - torch.from_numpy(theta[:3, None] * right[:3]) @ v[0]
    np.testing.assert_allclose(np.linalg.norm(residual[0], axis=1), missing.norm(dim=1), rtol=1e-8)
    np.testing.assert_allclose(run.largest()[1], missing[:1].norm(dim=1), rtol=1e-8)


def test_groups_know_nothing_of_one_another(conv):
    start = random_start(conv, 3, 2, 0)
    together, alone = Bidiagonalisation(conv, start.clone()), Bidiagonalisation(conv, start[1:2].clone())
    for run in (together, alone) * 5:
        run.step()
    np.testing.assert_allclose(together.matrix()[1:2], alone.matrix(), rtol=0, atol=1e-10)


def test_every_start_vector_has_its_own_quadrature(conv):
    """What a run of that vector alone gives."""
    run = Bidiagonalisation(conv, random_start(conv, 1, 3, 0))
    first = run.v[0].clone()
    lanczos._go_on(run, 7, None)
    theta, weights = lanczos.quadratures(run.matrix()[0], 3, 7)
    for probe in range(3):
        alone = Bidiagonalisation(conv, first[probe].clone()[None, None])
        lanczos._go_on(alone, 7, None)
        _, expected, right = np.linalg.svd(alone.matrix()[0])
        np.testing.assert_allclose(theta[probe], expected[::-1], rtol=1e-8)
        np.testing.assert_allclose(weights[probe], np.square(right[::-1, 0]), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("apart", [1e-5, 5e-5, 1e-3])
@pytest.mark.parametrize(("values", "probes"), [(2, 1), (2, 2), (4, 2)])
def test_a_norm_with_values_close_by(values, probes, apart):
    """Groups that are equal but for a factor: start vectors meet mixtures, where a run must not stop."""
    torch.manual_seed(0)
    one = operator(nn.Conv2d(4, 4, 3, padding=1, bias=False), (4, 10, 10))
    op = dataclasses.replace(
        one, weight=torch.cat([one.weight * (1 - apart * i) for i in range(values)]), groups=values
    )
    true = exact_values(one).largest
    for seed in range(3):
        assert lanczos.lanczos_values(op, probes, seed=seed).largest == pytest.approx(true, rel=1e-5)


def test_the_stated_shortfall_is_above_the_true_one():
    torch.manual_seed(0)
    op = operator(nn.Conv2d(8, 8, 3, padding=1, bias=False), (8, 12, 12))
    true = exact_values(op).largest
    for seed in range(3):
        run = Bidiagonalisation(op, random_start(op, 1, 2, seed))
        lanczos._go_on(run, 8, None)
        for _ in range(12):
            lanczos._go_on(run, 2, None)
            theta, error = lanczos._largest(run)
            assert 1 - theta / true < error + 5e-7  # float32


def test_an_exhausted_space_still_ends_below_the_norm():
    """Six values at most: further columns are zeros or copies on their way to values that are known."""
    op = ConvOperator(torch.randn(6, 9, 1, dtype=torch.float64), (1,), (1,), (1,), (1,), (0,))
    run, _, _ = kept(op, 1, 2, 5)
    theta, true = (np.linalg.svd(m, compute_uv=False) for m in (run.matrix()[0], op.weight[..., 0].numpy()))
    assert np.abs(theta - true[:, None]).min(1).max() < 1e-10
    assert theta[0] == pytest.approx(true[0], rel=1e-12)

"""Gram matrices, singular values and eigenvalues through scipy's BLAS and LAPACK, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netprobe.weights import lapack, matrices

ROUNDING = 2e-6  # of the largest: float32 rounds to 6e-8, and some hundred rotations add up like a random walk
SHAPES = [(4, 1, 5), (5, 7, 7), (3, 4, 9), (2, 90, 4), (2, 64, 64), (2, 200, 130), (1, 130, 300), (0, 3, 3)]


def random(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("part", [np.asarray, np.real])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, part):
    batch = part(random(*shape))
    reference = np.linalg.svd(batch.astype(np.complex128), compute_uv=False)
    values = lapack.singular_values(batch)
    np.testing.assert_allclose(values, reference, rtol=0, atol=ROUNDING * reference.max(initial=1))


def test_small_values_beside_large_ones():
    """A rank of 3 leaves zeros, up to rounding of the largest value."""
    values = lapack.singular_values(random(1, 80, 3) @ random(1, 3, 80))[0]
    assert (values[3:] < ROUNDING * values[0]).all()
    assert values[2] > 0.1 * values[0]


def test_what_does_not_converge_is_an_error(monkeypatch):
    monkeypatch.setattr(lapack, "_gesvd", lambda *size: lambda matrix, values: 2)
    with pytest.raises(np.linalg.LinAlgError, match=r"matrix 0 did not converge \(LAPACK returned 2\)"):
        lapack.singular_values(random(1, 3, 3))


@pytest.mark.parametrize("dtype", lapack.HERK)
@pytest.mark.parametrize("shape", [(3, 4, 7), (2, 7, 4), (2, 1, 5), (0, 3, 3)])
def test_grams_are_the_lower_triangles_of_products_with_the_adjoint(shape, dtype):
    batch = (random(*shape) if dtype.isupper() else random(*shape).real).astype(dtype)
    adjoint = batch.conj().swapaxes(1, 2)
    found, expected = lapack.grams(batch), batch @ adjoint if shape[1] <= shape[2] else adjoint @ batch
    assert found.dtype == dtype
    np.testing.assert_allclose(np.tril(found), np.tril(expected), rtol=0, atol=1e-5)  # sums of 7 products near 1


@pytest.mark.parametrize("part", [np.asarray, np.real])
@pytest.mark.parametrize("side", [1, 5, 130])
def test_eigenvalues_from_lower_triangles(side, part):
    square = part(random(2, side, side))
    hermitian = np.tril(square) + np.tril(square, -1).conj().swapaxes(1, 2)
    hermitian = hermitian - 1j * hermitian.imag * np.eye(side) if part is np.asarray else hermitian
    reference = np.linalg.eigvalsh(hermitian.astype(np.complex128))
    upper = np.triu(np.full((side, side), 7, square.dtype), 1)
    values = lapack.eigenvalues((np.tril(hermitian) + upper).astype(square.dtype))
    # eigenvalues of either sign feel more rotations than singular values
    np.testing.assert_allclose(values, reference, rtol=0, atol=2 * ROUNDING * np.abs(reference).max())


@pytest.mark.parametrize("side", [matrices.ONE_BY_ONE["eigh"] - 1, matrices.ONE_BY_ONE["eigh"]])
def test_both_ways_from_gram_matrices_give_the_same(side):
    batch = torch.from_numpy(random(3, side, 2 * side))
    reference = torch.linalg.svdvals(batch.to(torch.complex128))
    values = matrices.by_gram(matrices.gram(batch))
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), reference, rtol=0, atol=ROUNDING * float(reference.max()))


@pytest.mark.parametrize("side", [matrices.ONE_BY_ONE["svd"] - 1, matrices.ONE_BY_ONE["svd"]])
def test_both_routines_give_the_same(side):
    batch = torch.from_numpy(random(6, side, side + 3)).reshape(2, 3, side, side + 3)
    for given in (batch, batch.mH, batch.conj(), batch.real):
        before = given.clone()
        ours, reference = matrices.by_svd(given), torch.linalg.svdvals(given.to(torch.complex128))
        assert torch.equal(given, before)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), reference, rtol=0, atol=ROUNDING * float(reference.max()))

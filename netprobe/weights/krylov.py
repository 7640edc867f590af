"""The largest singular values, with their multiplicities, from convolutions alone: block Lanczos with thick restarts.

Works on G = A^T A, on the smaller side of A. The basis is kept orthogonal, so that a value is not found twice; it grows
by a block of vectors, so that a value of multiplicity up to the block's size is found as often as it occurs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netprobe.weights.dense import gram_matrix
from netprobe.weights.matrices import by_gram
from netprobe.weights.operators import ConvOperator

BLOCK = 8
"""Vectors added at a time: the largest multiplicity that is found for certain."""

SMALL = 512
"""Up to this size the Krylov space would be the whole space: the Gram matrix is diagonalised instead."""

LARGEST_BASIS = 160
CYCLES = 60


@dataclass(frozen=True)
class Extremes:
    """Singular values at the two ends, and the bound of each one's error; NaN where it did not converge."""

    leading: np.ndarray
    leading_error: np.ndarray
    trailing: np.ndarray


def extreme_values(
    operator: ConvOperator,
    k: int,
    *,
    tolerance: float = 1e-5,
    seed: int = 0,
    memory: int = 2**31,
    advance: Callable[[float], None] | None = None,
) -> Extremes:
    """The k largest singular values to a relative `tolerance`, and of the k smallest those that converged meanwhile.

    Some singular value is sure to lie within a value's error bound, which follows from r = |A^T A v - s^2 v|: it is
    s - sqrt(s^2 - r). Usually it is far closer.
    The smallest values of a convolution converge so slowly that most are NaN: only those within 1e-3 of themselves are
    given. Convergence takes about n steps for an n x n grid, each of two convolutions of a batch of 8; the basis takes
    at most half of `memory` bytes. Runs in the precision and on the device of the operator's weight.
    """
    k = min(k, operator.count)
    if operator.count <= SMALL:
        values = by_gram(gram_matrix(operator.to(torch.float64)).cpu()).numpy()
        floor = np.sqrt(values[0] * values[0] * 1e-14)  # below it, a root of a Gram matrix's rounding
        small = values[::-1][:k]
        return Extremes(values[:k], np.full(k, 1e-10 * values[0]), np.where(small > 1e3 * floor, small, np.nan))
    basis = _Basis(operator, k, seed, memory)
    for _ in range(CYCLES):
        basis.extend(lambda theta, residual: _converged(theta, residual, k, tolerance), advance)
        theta, residual = basis.ritz()
        if _converged(theta, residual, k, tolerance):
            break
        basis.restart()
    return _extremes(theta, residual, k, tolerance)


def _converged(theta: np.ndarray, residual: np.ndarray, k: int, tolerance: float) -> bool:
    """Whether the k largest are within tolerance: an error of r in s^2 is one of r / 2 s in s."""
    return len(theta) > k and bool((residual[:k] <= 2 * tolerance * np.maximum(theta[:k], 0)).all())


def _extremes(theta: np.ndarray, residual: np.ndarray, k: int, tolerance: float) -> Extremes:
    largest = theta[0]
    values = np.sqrt(np.maximum(theta, 0))
    error = values - np.sqrt(np.maximum(theta - residual, 0))
    done = residual[:k] <= 20 * tolerance * largest  # cycles ran out: keep what is of some use, with its error
    small = residual[-k:] <= 2e-3 * theta[-k:]
    trailing = np.where(np.minimum.accumulate(small[::-1]), values[-k:][::-1], np.nan)
    return Extremes(np.where(done, values[:k], np.nan), error[:k], trailing)


class _Basis:
    """An orthonormal basis of a block Krylov space of G, (vector, element), and G projected on it."""

    def __init__(self, operator: ConvOperator, k: int, seed: int, memory: int) -> None:
        self.operator, self.kept = operator, k + BLOCK
        size = operator.weight.element_size() * operator.count
        room = memory // 2 // size
        self.capacity = BLOCK * (min(max(room, self.kept + 4 * BLOCK), max(LARGEST_BASIS, 3 * self.kept)) // BLOCK)
        self.capacity = min(self.capacity, operator.count - BLOCK)
        self.vectors = operator.weight.new_empty(self.capacity, operator.count)
        self.projected = np.zeros((self.capacity, self.capacity))
        self.filled = 0
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(BLOCK, operator.count, generator=generator).to(operator.weight)
        self.next, self.link = _orthonormal(start)

    def extend(self, enough: Callable, advance: Callable[[float], None] | None) -> None:
        """Add blocks until the basis is full or the Ritz values are good `enough`."""
        while self.filled + BLOCK <= self.capacity:
            self._add()
            if advance:
                advance(1)
            if self.filled % (4 * BLOCK) == 0 and enough(*self.ritz()):
                return

    def _add(self) -> None:
        start, end = self.filled, self.filled + BLOCK
        self.vectors[start:end] = self.next
        self.filled = end
        known = self.vectors[:end]
        image = self._gram(self.next)
        recent = slice(max(0, start - BLOCK), end)  # nearly all of the image that is in the basis lies here
        column = _take(image, known[recent])
        rest = _take(image, known)
        rest[recent] += column
        column = rest.double().cpu().numpy()
        self.projected[:end, start:end] = column
        self.projected[start:end, :end] = column.T
        self.next, self.link = _orthonormal(image)

    def _gram(self, block: Tensor) -> Tensor:
        shaped = block.reshape(-1, *self.operator.small_shape)
        return self.operator.backward(self.operator.forward(shaped)).flatten(1)

    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        theta, vectors = np.linalg.eigh(self.projected[: self.filled, : self.filled])
        return theta[::-1], vectors[:, ::-1]

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of the projection, descending, and the norms of their residuals."""
        theta, vectors = self._eigen()
        return theta, np.linalg.norm(self.link.T @ vectors[-BLOCK:], axis=0)

    def restart(self) -> None:
        """Keep the leading Ritz vectors only; the next block still continues the space."""
        theta, vectors = self._eigen()
        kept = torch.from_numpy(np.ascontiguousarray(vectors[:, : self.kept].T)).to(self.vectors)
        self.vectors[: self.kept] = kept @ self.vectors[: self.filled]
        self.projected[:] = 0
        self.projected[range(self.kept), range(self.kept)] = theta[: self.kept]
        self.filled = self.kept


def _take(image: Tensor, basis: Tensor) -> Tensor:
    """Subtract from `image` (vector, element) its part in the span of `basis`, in place; the coefficients."""
    coefficients = basis @ image.T
    image.addmm_(coefficients.T, basis, alpha=-1)
    return coefficients


def _orthonormal(block: Tensor) -> tuple[Tensor, np.ndarray]:
    """Orthonormal rows Q and the square L with block = L Q."""
    q, r = torch.linalg.qr(block.T)
    return q.T.contiguous(), r.T.double().cpu().numpy()

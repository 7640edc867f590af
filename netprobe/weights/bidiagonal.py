"""An operator as a small band matrix: Golub-Kahan-Lanczos in blocks, from random start vectors.

    A V = U B,   A^T U = V B^T + V' beta^T

with p orthonormal columns of U and V a step, and B upper triangular with p superdiagonals, whose singular values
approach those of A, the largest first (Golub, Luk and Overton 1981; Golub and Van Loan 2013, section 10.4). A block of
p finds p values that nearly coincide as fast as one value that stands alone. Convolutions need that: a frequency and
its negative make such pairs, often within 1e-5 of each other.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

ROUNDING = 1e-6
"""How near to one another, over the largest, singular values of B are copies of one value."""


class LinearMap(Protocol):
    """What is needed of an operator, or of several at a time: the precision, and maps of batches there and back."""

    weight: Tensor
    small_shape: tuple[int, ...]

    def forward(self, v: Tensor) -> Tensor:
        """From the smaller side to the larger; the result is the caller's to overwrite."""

    def backward(self, u: Tensor) -> Tensor:
        """The adjoint of `forward`."""


def random_start(operator: LinearMap, groups: int, block: int, seed: int) -> Tensor:
    """`groups` blocks of vectors of the smaller side, drawn on the CPU, so that the device makes no difference."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(groups * block, *operator.small_shape, generator=generator, dtype=operator.weight.dtype)
    return drawn.to(operator.weight.device).view(groups, block, -1)


class Bidiagonalisation:
    """Golub-Kahan-Lanczos of every group of `start`, (group, vector, element), without reorthogonalisation.

    Losing orthogonality repeats singular values of B and shares their weight among the copies; neither the largest nor
    the distribution is hurt, while keeping it would cost 3 to 10 times as much. Groups know nothing of one another and
    may be of different operators. `start` is overwritten.

    `alpha` and `beta` are lists of (group, block, block), a step each: the diagonal blocks of B and those on their
    right, transposed. `noise`, (group, 1, 1), is a length that is mere rounding: what is not longer becomes zero, and
    the Krylov space is exhausted. Memory: four times that of `start`.
    """

    def __init__(self, operator: LinearMap, start: Tensor) -> None:
        self.operator = operator
        self.v, _ = _orthonormal(start, 0.0)
        self.u: Tensor | None = None
        self.noise: Tensor | float = 0.0
        self.alpha: list[Tensor] = []
        self.beta: list[Tensor] = []

    def step(self) -> None:
        """Once there and once back."""
        groups, block, _ = self.v.shape
        there = self.operator.forward(self.v.reshape(-1, *self.operator.small_shape))
        u = there.reshape(groups, block, -1)
        if self.u is not None:
            u.baddbmm_(self.beta[-1].mT, self.u, alpha=-1)
        self.u, alpha = _orthonormal(u, self.noise)
        if not self.alpha:
            self.noise = 8 * torch.finfo(u.dtype).eps * alpha[:, :1, :1]
        v = self.operator.backward(self.u.reshape(there.shape)).reshape(self.v.shape)
        self.v, beta = _orthonormal(v.baddbmm_(alpha.mT, self.v, alpha=-1), self.noise)
        self.alpha.append(alpha)
        self.beta.append(beta)

    def matrix(self, steps: int | None = None) -> np.ndarray:
        """B of the first `steps`, (group, step * block, step * block)."""
        alpha, beta = (torch.stack(part[:steps], 1).double().cpu().numpy() for part in (self.alpha, self.beta))
        groups, m, p, _ = alpha.shape
        b, k = np.zeros((groups, m, p, m, p)), np.arange(m)
        b[:, k, :, k] = alpha.transpose(1, 0, 3, 2)
        b[:, k[:-1], :, k[1:]] = beta[:, :-1].transpose(1, 0, 2, 3)
        return b.reshape(groups, m * p, m * p)

    def leading(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The `count` largest singular values theta of every B, (group, value), and A^T u - theta v for each: its
        coordinates in V', (group, value, block). Some singular value of A is as near to theta as that is long.
        """
        matrices, last = self.matrix(), self.beta[-1].double().cpu().numpy()
        found = [_leading(b, count, last.shape[-1]) for b in matrices]
        theta, ends = (np.stack(part) for part in zip(*found, strict=True))
        return theta, ends @ last

    def largest(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest singular value of every B and the length of its residual, (group,).

        A copy of it that is about to appear has a long residual of its own: among copies the shortest counts.
        """
        theta, residual = self.leading(4)
        length = np.linalg.norm(residual, axis=-1)
        copies = theta >= theta[:, :1] * (1 - ROUNDING)
        return theta[:, 0], np.where(copies, length, np.inf).min(1)


def _leading(b: np.ndarray, count: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest singular values of B, descending, and the last `block` components of their left singular vectors.

    From B B^T, which has `block` diagonals on either side of the main one.
    """
    square, side = b @ b.T, len(b)
    band = np.zeros((block + 1, side))
    for offset in range(min(block + 1, side)):
        band[block - offset, offset:] = np.diagonal(square, offset)
    values, vectors = scipy.linalg.eig_banded(band, select="i", select_range=(max(0, side - count), side - 1))
    return np.sqrt(np.maximum(values[::-1], 0)), vectors[-block:, ::-1].T


def _orthonormal(vectors: Tensor, noise: Tensor | float) -> tuple[Tensor, Tensor]:
    """Orthonormal vectors Q and lower triangular L with `vectors` = L Q, (group, vector, element), in place.

    Gram and Schmidt, modified. What is not longer than `noise` becomes zero.
    """
    block, short = vectors.shape[1], noise * noise
    factor = vectors.new_zeros(len(vectors), block, block)
    for i in range(block):
        one, others = vectors[:, i : i + 1], vectors[:, i + 1 :]
        products = torch.bmm(vectors[:, i:], one.mT)
        square = products[:, :1]
        inverse = square.rsqrt().where(square > short, 0.0)
        factor[:, i:, i : i + 1] = column = products * inverse
        one.mul_(inverse)
        if i + 1 < block:
            others.addcmul_(column[:, 1:], one, value=-1)
    return vectors, factor

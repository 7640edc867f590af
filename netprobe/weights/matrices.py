"""Singular values of batches of small matrices, to a stated accuracy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from netprobe.weights import lapack

ERROR = {"single": 5e-6, "double": 1e-10, "full": 1e-13}
"""Bound of the error over the largest value, by precision. "single" is an SVD of float32 matrices, "full" one of
float64; "double" takes the square roots of a float64 Gram matrix's eigenvalues where that is accurate enough, which is
twice as fast, and the SVD where it is not."""

DTYPE = {"single": torch.float32, "double": torch.float64, "full": torch.float64}

RESOLVED = 1e-5
"""Eigenvalues of a Gram matrix err by about 1e-15 of the largest; the root at relative height r by 1e-15 / (2 r)."""

ONE_BY_ONE = {"svd": 64, "eigh": 128}
"""From this side on a loop over float32 or complex64 matrices calls a faster routine than torch does for the batch."""


def by_svd(matrices: Tensor) -> Tensor:
    """Singular values (..., min(rows, columns)), descending, in the precision of `matrices`, which are on the CPU."""
    if 1 in matrices.shape[-2:]:
        return torch.linalg.vector_norm(matrices, dim=(-2, -1))[..., None]
    if matrices.dtype in (torch.float32, torch.complex64) and min(matrices.shape[-2:]) >= ONE_BY_ONE["svd"]:
        return torch.from_numpy(lapack.singular_values(_copied(matrices))).reshape(*matrices.shape[:-2], -1)
    return torch.linalg.svdvals(matrices)


def _copied(matrices: Tensor) -> np.ndarray:
    """As one batch (batch, rows, columns), which may be destroyed."""
    batch = matrices.reshape(-1, *matrices.shape[-2:])
    return batch.clone(memory_format=torch.contiguous_format).resolve_conj().numpy()


def gram(matrices: Tensor) -> Tensor:
    """The lower triangle of the product of every matrix with its adjoint, on the smaller side; on the CPU."""
    batch = matrices.reshape(-1, *matrices.shape[-2:]).resolve_conj()
    found = torch.from_numpy(lapack.grams(batch.numpy()))
    return found.reshape(*matrices.shape[:-2], *found.shape[1:])


def by_gram(grams: Tensor) -> Tensor:
    """Square roots of the eigenvalues, descending, of Gram matrices (only their lower triangles are read).

    In float64 through numpy's LAPACK, OpenBLAS where it came as a wheel: torch's MKL takes 1.2 to 1.5 times as long on
    AMD processors. In float32 numpy would compute in float64 all the same: large ones go through `lapack`, small ones
    through torch.
    """
    if grams.dtype in (torch.float64, torch.complex128):
        values = torch.from_numpy(np.linalg.eigvalsh(grams.numpy()))
    elif grams.shape[-1] >= ONE_BY_ONE["eigh"]:
        values = torch.from_numpy(lapack.eigenvalues(_copied(grams))).reshape(grams.shape[:-1])
    else:
        values = torch.linalg.eigvalsh(grams)
    return values.clamp(min=0).sqrt().flip(-1)


def unresolved(values: Tensor, largest: float) -> Tensor:
    """Which of a batch of `by_gram` values, (..., value), hold one too small for a Gram matrix."""
    return values[..., -1] < RESOLVED * largest


def singular_values(matrices: Tensor, precision: str) -> Tensor:
    """Singular values of a batch (batch, rows, columns) with an error below ERROR[precision] of the batch's largest."""
    matrices = matrices.to(DTYPE[precision].to_complex() if matrices.is_complex() else DTYPE[precision])
    if precision != "double" or min(matrices.shape[-2:]) == 1:
        return by_svd(matrices)
    values = by_gram(gram(matrices))
    again = unresolved(values, float(values.max()))
    values[again] = by_svd(matrices[again])
    return values

"""All singular values through the unrolled matrix, for what has no structure to exploit."""

from __future__ import annotations

from collections.abc import Iterator

import scipy.linalg
import torch
from torch import Tensor

from netprobe.errors import NetprobeError
from netprobe.settings import in_bytes
from netprobe.weights.matrices import ERROR, RESOLVED, by_gram, by_svd
from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import SingularValues
from netprobe.weights.windows import disjoint, window_values

BATCH = 256
"""Unit vectors convolved at a time."""


def exact_values(operator: ConvOperator, precision: str = "double", memory: str | int = "2GiB") -> SingularValues:
    """All singular values of any operator, for the padding it has, with an error below `ERROR[precision]`.

    Windows that do not overlap need one SVD of the kernel. Otherwise, group by group, the Gram matrix of the smaller
    side is built by convolving unit vectors there and back (the operator itself is not formed) and diagonalised in
    float64; values below 1e-5 of the largest, hidden by its rounding, are those of the operator on their eigenvectors.
    "full" and "single" precision take the SVD of the unrolled matrix.

    Cost: for N values a group, N convolutions and 4/3 N^3 multiply-adds (N = 4096: seconds; 16384: minutes), twice
    that with small values. Raises NetprobeError, naming what it would need, where that is more than `memory`.
    """
    if disjoint(operator):
        return window_values(operator, precision)
    need = bytes_needed(operator, precision)
    if need > in_bytes(memory):
        raise NetprobeError(
            f"all {operator.count} singular values need {need / 2**30:.3g} GiB, more than memory={memory!r}; raise it, "
            "or use method='lanczos'"
        )
    blocks = [block.to(torch.float64, "cpu") for block in operator.blocks()]
    if precision == "double":
        values = _by_grams(blocks)
    else:
        dtype = torch.float32 if precision == "single" else torch.float64
        values = [by_svd(dense_matrix(block).to(dtype)).double() for block in blocks]
    return SingularValues.gathered([(v, 1) for v in values], operator.count, "exact", ERROR[precision])


def bytes_needed(operator: ConvOperator, precision: str) -> int:
    """Memory of the largest matrices: the operator of one group and LAPACK's copy of it, or two Gram matrices."""
    rows, columns = operator.rows // operator.groups, operator.columns // operator.groups
    entries = 2 * min(rows, columns) ** 2 if precision == "double" else 2 * rows * columns
    return (4 if precision == "single" else 8) * entries


def _by_grams(blocks: list[ConvOperator]) -> list[Tensor]:
    """Values group by group."""
    values = [by_gram(gram_matrix(block)) for block in blocks]
    largest = max(float(v[0]) for v in values)
    for block, found in zip(blocks, values, strict=True):
        hidden = int((found < RESOLVED * largest).sum())
        if hidden:
            found[-hidden:] = _smallest(block, hidden)
    return values


def _smallest(operator: ConvOperator, number: int) -> Tensor:
    """The smallest singular values, descending, from the operator on the eigenvectors of its Gram matrix.

    Rounding turns such eigenvectors among themselves, which their common SVD undoes, and hardly towards the others.
    """
    gram = gram_matrix(operator).numpy()
    _, vectors = scipy.linalg.eigh(gram, subset_by_index=[0, number - 1], overwrite_a=True, check_finite=False)
    basis = torch.from_numpy(vectors.T.copy()).reshape(-1, *operator.small_shape)
    return by_svd(torch.cat([operator.forward(part).flatten(1) for part in basis.split(BATCH)]))


def _units(shape: tuple[int, ...], like: Tensor) -> Iterator[Tensor]:
    """Unit vectors of a space, a batch at a time."""
    size = torch.Size(shape).numel()
    for start in range(0, size, BATCH):
        indices = torch.arange(start, min(start + BATCH, size))
        batch = like.new_zeros(len(indices), size)
        batch[torch.arange(len(indices)), indices] = 1
        yield batch.reshape(-1, *shape)


def dense_matrix(operator: ConvOperator) -> Tensor:
    """The unrolled matrix, the smaller side as rows: A^T if the operator is tall, else A."""
    parts = [operator.forward(e).flatten(1) for e in _units(operator.small_shape, operator.weight)]
    return torch.cat(parts)


def gram_matrix(operator: ConvOperator) -> Tensor:
    """The Gram matrix on the smaller side, N x N."""
    units = _units(operator.small_shape, operator.weight)
    return torch.cat([operator.backward(operator.forward(e)).flatten(1) for e in units])

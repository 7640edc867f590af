"""All singular values through the unrolled matrix, for what has no structure to exploit."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from netprobe.errors import NetprobeError
from netprobe.settings import in_bytes
from netprobe.weights.matrices import ERROR, by_gram, by_svd, unresolved
from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import SingularValues
from netprobe.weights.windows import disjoint, window_values

GRAM_ERROR = 1e-7
"""Error over the largest value where a Gram matrix's smallest eigenvalues are lost in its rounding."""

BATCH = 256
"""Unit vectors convolved at a time."""


def exact_values(operator: ConvOperator, precision: str = "double", memory: str | int = "2GiB") -> SingularValues:
    """All singular values of any operator, for the padding it has, with an error below `ERROR[precision]`.

    Windows that do not overlap need one SVD of the kernel. Otherwise, group by group, the Gram matrix of the smaller
    side is built by convolving unit vectors there and back (the operator itself is not formed) and diagonalised in
    float64; "full" precision, and values below 1e-5 of the largest (if it fits; else their error is 1e-7 of the
    largest, and `error` says so), take the SVD of the unrolled matrix.

    Cost: for N values a group, N convolutions and 4/3 N^3 multiply-adds (N = 4096: seconds; 16384: minutes). Raises
    NetprobeError, naming what it would need, where that is more than `memory`.
    """
    if disjoint(operator):
        return window_values(operator, precision)
    need, budget = bytes_needed(operator, precision), in_bytes(memory)
    if need > budget:
        raise NetprobeError(
            f"all {operator.count} singular values need {need / 2**30:.3g} GiB, more than memory={memory!r}; raise it, "
            "or use method='lanczos'"
        )
    blocks = [block.to(torch.float64, "cpu") for block in operator.blocks()]
    dtype = torch.float32 if precision == "single" else torch.float64
    if precision == "double":
        values, error = _by_grams(blocks, budget)
    else:
        values, error = [by_svd(dense_matrix(block).to(dtype)).double() for block in blocks], ERROR[precision]
    return SingularValues.gathered([(v, 1) for v in values], operator.count, "exact", error)


def bytes_needed(operator: ConvOperator, precision: str) -> int:
    """Memory of the largest matrices: the operator of one group and LAPACK's copy of it, or two Gram matrices."""
    rows, columns = operator.rows // operator.groups, operator.columns // operator.groups
    entries = 2 * min(rows, columns) ** 2 if precision == "double" else 2 * rows * columns
    return (4 if precision == "single" else 8) * entries


def _by_grams(blocks: list[ConvOperator], budget: int) -> tuple[list[Tensor], float]:
    """Values group by group, and their error: by SVD where one is too small for a Gram matrix, if that fits."""
    values = [by_gram(gram_matrix(block)) for block in blocks]
    largest = max(float(v[0]) for v in values)
    error = ERROR["double"]
    for number, block in enumerate(blocks):
        if unresolved(values[number], largest):
            if bytes_needed(block, "full") <= budget:
                values[number] = by_svd(dense_matrix(block))
            else:
                error = GRAM_ERROR
    return values, error


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

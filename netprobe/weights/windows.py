"""Exact singular values where no two outputs read the same input: 1x1 kernels, patch embeddings, one-point outputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from netprobe.weights.matrices import ERROR, singular_values
from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import SingularValues
from netprobe.weights.threads import one_thread


def disjoint(operator: ConvOperator) -> bool:
    """Whether the windows of different outputs do not overlap (nor, on a periodic grid, wrap onto one another)."""
    apart = zip(operator.stride, operator.extent, operator.output_size, strict=True)
    if operator.circular:
        return operator.periodic and all(s >= e for s, e, _ in apart)
    return all(s >= e or m == 1 for s, e, m in apart)


def window_values(operator: ConvOperator, precision: str = "double") -> SingularValues:
    """All singular values of an operator with `disjoint` windows.

    It is block diagonal with one block an output position: the kernel reshaped to (C_out, C_in * taps), without the
    taps that read padding. Positions that lack the same taps share one SVD. Cost: one SVD, and a few smaller ones for
    the border; 1x1 convolutions of any stride need a single one of C_out x C_in.
    """
    weight = operator.weight.detach().cpu().double().flatten(2)
    grouped = weight.reshape(operator.groups, -1, *weight.shape[1:])
    masks = [torch.unique(operator.inside(axis), dim=0, return_counts=True) for axis in range(operator.axes)]
    with one_thread():
        parts = list(_kinds(operator, grouped, masks, precision))
    return SingularValues.gathered(parts, operator.count, "exact (disjoint windows)", ERROR[precision])


def _kinds(
    operator: ConvOperator, grouped: Tensor, masks: list[tuple[Tensor, Tensor]], precision: str
) -> Iterator[tuple[Tensor, int]]:
    """The values of every kind of position, and how many of its kind there are."""
    for kinds in itertools.product(*(range(len(counts)) for _, counts in masks)):
        taps = _outer([mask[kind] for (mask, _), kind in zip(masks, kinds, strict=True)])
        positions = math.prod(int(counts[kind]) for (_, counts), kind in zip(masks, kinds, strict=True))
        if taps.any():
            yield singular_values(grouped[..., taps].flatten(2), precision).double(), positions


def _outer(masks: list[Tensor]) -> Tensor:
    """Which taps are read, all axes together, flat."""
    taps = masks[0]
    for mask in masks[1:]:
        taps = (taps[..., None] & mask).flatten()
    return taps

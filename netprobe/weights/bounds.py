"""Certified upper bounds of all singular values of a zero-padded convolution, from a periodic one on a larger grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from netprobe.errors import NetprobeError
from netprobe.weights.fourier import coarse_values
from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import SingularValues


def enclosing(operator: ConvOperator) -> ConvOperator:
    """The smallest periodic convolution of which a zero-padded one is a submatrix.

    On a grid of at least n + (the larger padding) points, what is read before the first or after the last input falls
    on points that are not inputs; without them, and without the surplus outputs, the matrices are the same. A grid of
    n + k - 1 is enough for any padding below k, but larger than need be. It has to be a multiple of the stride.
    """
    if operator.circular:
        raise NetprobeError("only a zero-padded operator is a submatrix of a periodic one")
    grid = []
    for n, m, s, p, reach in zip(
        operator.input_size, operator.output_size, operator.stride, operator.before, operator.reach, strict=True
    ):
        least = max(n + max(p, reach - p - n), s * m)
        grid.append(-(-least // s) * s)
    outputs = tuple(n // s for n, s in zip(grid, operator.stride, strict=True))
    return dataclasses.replace(operator, input_size=tuple(grid), output_size=outputs, circular=True)


def upper_bounds(
    operator: ConvOperator, threads: int | None = None, advance: Callable[[float], None] | None = None
) -> SingularValues:
    """A bound for every singular value of a zero-padded operator: the i-th of `enclosing` is at least the i-th of it.

    Deleting rows and columns of a matrix lowers every singular value (Horn and Johnson 2013, corollary 3.1.3 of the
    Topics). Tight at the top, within some per cent, loose in the bulk; the values themselves carry a margin for
    rounding, `coarse_values`. There are more of them than values; the surplus, at the end, is to be ignored.
    """
    return coarse_values(enclosing(operator), threads, advance)

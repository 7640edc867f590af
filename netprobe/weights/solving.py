"""One operator's singular values, by the method that was asked for or the best there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from netprobe.settings import SpectrumSettings, in_bytes
from netprobe.weights.bounds import upper_bounds
from netprobe.weights.dense import bytes_needed, exact_values
from netprobe.weights.fourier import fourier_values
from netprobe.weights.krylov import extreme_values
from netprobe.weights.lanczos import lanczos_values
from netprobe.weights.operators import ConvOperator
from netprobe.weights.singular_values import LEVELS, SingularValues
from netprobe.weights.windows import disjoint

EXACT_SIDE = 2048
"""Up to this many values `auto` diagonalises the unrolled matrix, which takes a second or two."""

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Solved:
    """What is known of one operator: its values (or their distribution), both ends, and upper bounds.

    `norm_upper`, `leading_upper` and `upper` (at `LEVELS`) are certified; they are NaN where none were asked for.
    `values_error` bounds the error of `leading` over the largest, or estimates that of a norm sought alone by lanczos;
    `all_values` says whether `values` are the values themselves.
    """

    values: SingularValues
    leading: np.ndarray
    trailing: np.ndarray
    norm_upper: float
    leading_upper: np.ndarray
    upper: np.ndarray
    values_error: float
    all_values: bool


def choose_method(operator: ConvOperator, settings: SpectrumSettings) -> str:
    """The method asked for, or for "auto": whatever gives all values in seconds, else lanczos."""
    if settings.method != "auto":
        return settings.method
    if disjoint(operator):
        return "exact"
    if operator.periodic:
        return "circular"
    side = operator.count // operator.groups
    affordable = side <= EXACT_SIDE and operator.groups * side**3 <= EXACT_SIDE**3
    fits = bytes_needed(operator, _precision(settings)) <= in_bytes(settings.memory)
    return "exact" if affordable and fits else "lanczos"


def solve(operator: ConvOperator, settings: SpectrumSettings, advance: Advance | None = None) -> Solved:
    """The singular values of `operator`; `advance` is called with shares of the work, which add up to about 1.

    Raises NetprobeError where the method asked for cannot be had: a stride that does not divide the size of a periodic
    operator, or more memory than there is.
    """
    if "circular" in (settings.method, settings.padding):
        operator = operator.made_circular()
    method = choose_method(operator, settings)
    if method == "lanczos":
        return _by_lanczos(operator, settings, advance)
    if method == "circular":
        share = _scaled(advance, 1 / np.prod(operator.output_size))
        return _complete(fourier_values(operator, _precision(settings), settings.threads, share), settings)
    return _complete(exact_values(operator, _precision(settings), settings.memory), settings)


def cost(operator: ConvOperator, settings: SpectrumSettings) -> float:
    """Rough number of multiply-adds, to tell how far along the work is."""
    rows, columns = operator.weight.shape[0], operator.weight.shape[1] * operator.groups
    method = choose_method(operator, settings)
    if disjoint(operator) and method != "lanczos":
        return 4 * operator.weight.numel() * min(rows, columns) / operator.groups
    if method == "circular":
        return 10 * np.prod(operator.output_size) * operator.groups * (min(rows, columns) / operator.groups) ** 3
    if method == "exact":
        return 4 * operator.groups * (operator.count / operator.groups) ** 3
    steps = 200 if settings.leading == 1 else 2000
    return steps * operator.macs + 3 * np.prod(operator.output_size) * min(rows, columns) ** 3 / operator.groups**2


def _precision(settings: SpectrumSettings) -> str:
    return "double" if settings.precision == "auto" else settings.precision


def _scaled(advance: Advance | None, share: float) -> Advance | None:
    return None if advance is None else lambda amount: advance(amount * share)


def _complete(values: SingularValues, settings: SpectrumSettings) -> Solved:
    """All values are known: they are their own bounds, up to their error."""
    k, margin = settings.leading, values.error * values.largest
    return Solved(
        values=values,
        leading=values.leading(k),
        trailing=values.trailing(k),
        norm_upper=values.largest + margin,
        leading_upper=values.leading(k) + margin,
        upper=values.at_levels() + margin,
        values_error=values.error,
        all_values=True,
    )


def _by_lanczos(operator: ConvOperator, settings: SpectrumSettings, advance: Advance | None) -> Solved:
    fine = settings.precision in ("double", "full")
    operator = operator.to(torch.float64 if fine else torch.float32)
    alone, k = settings.leading == 1, settings.leading
    spread = _scaled(advance, (0.5 if alone else 0.1) / settings.steps)
    values = lanczos_values(operator, settings.probes, settings.steps, settings.seed, alone and not fine, spread)
    leading, trailing = np.full(k, np.nan), np.full(k, np.nan)
    if alone and not fine:
        leading[0], error = values.largest, 1e-5
    else:
        ends = extreme_values(
            operator,
            k,
            tolerance=1e-10 if fine else 1e-5,
            seed=settings.seed,
            memory=in_bytes(settings.memory),
            advance=_scaled(advance, 0.5 / 150),
        )
        leading[: len(ends.leading)], trailing[: len(ends.trailing)] = ends.leading, ends.trailing
        error = float(np.max(ends.leading_error[np.isfinite(ends.leading)], initial=0.0) / values.largest)
        values = values.led_by(ends.leading[: np.isfinite(ends.leading).sum()])
    return Solved(values, leading, trailing, *_bounded(operator, settings, advance), error, all_values=False)


def _bounded(
    operator: ConvOperator, settings: SpectrumSettings, advance: Advance | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Bounds of the norm, of the leading values, and at `LEVELS`.

    Of a zero-padded convolution by interlacing. The norm of the periodic one is at most `kernel_bound`, so that this,
    the bound of a periodic operator, has nothing to add there.
    """
    k = settings.leading
    if not settings.bounds or operator.circular:
        limit = operator.kernel_bound if settings.bounds else np.nan
        return limit, np.full(k, limit), np.full(len(LEVELS), limit)
    bounds = upper_bounds(operator, settings.threads, _scaled(advance, 0.3 / np.prod(operator.output_size)))
    leading = bounds.leading(k)
    leading[operator.count :] = np.nan
    return bounds.largest, leading, bounds.ranked(np.floor(LEVELS * (operator.count - 1)))

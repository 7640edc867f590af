"""Statistics of float32 activations on the CPU, each in one reading of memory, compiled by Numba.

Torch reads the activations once per operation, about eight times for the norms and five for the sparsity. Sums are
taken in float32 within a piece (2048 numbers, or the channels of one location) and in float64 across pieces; a piece
whose squares would underflow or overflow float32 is summed in float64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

PIECE = 2048
"""Numbers summed in float32 before float64 takes over; small enough that a difference stays in first-level cache."""

TINY, HUGE = np.float32(1e-30), np.float32(1e30)
"""Outside of these a float32 sum of squares may have lost what it was made of."""

SHARE = 1 << 17
"""Numbers that make it worth waking another thread."""

Columns = slice | list[int]
ALL, L2 = slice(None), slice(1, 2)
"""Which norms to return; the largest number costs a look of its own, which `L2` alone saves."""

SUMS = {"reassoc", "contract", "nsz"}
"""Licence to reorder a sum, which is what lets it use vector instructions; NaN and infinity keep their meaning."""


def compiled(function: Callable | None = None, **options: Any) -> Callable:
    """`numba.njit`, kept on disk where some folder for that can be written to."""
    if function is None:
        return functools.partial(compiled, **options)
    try:
        return numba.njit(function, nogil=True, cache=True, **options)
    except RuntimeError:  # a read-only installation without a home: compile anew in every process, for a second
        return numba.njit(function, nogil=True, **options)


def fits(x: Tensor) -> bool:
    """Whether these routines can take `x`."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def condition_norms(x: Tensor, columns: Columns = ALL) -> Tensor:
    """L1, L2 and Linf norm of condition 0 and of the others' differences from it: (c, n, ...) -> (n, c, 3) float64.

    `columns` selects among the three, in any order.
    """
    values = x.contiguous().numpy()
    norms, _ = _read(values.reshape(len(values), values.shape[1], -1, 1), True, columns != L2, False)
    return torch.from_numpy(norms[..., columns])


def location_hoyer(rows: Tensor) -> Tensor:
    """Mean squared-Hoyer ratio over locations that are not all zero, and the share that is: (c, n, L, C) -> (n, c, 2)
    float64."""
    return torch.from_numpy(_read(rows.contiguous().numpy(), False, False, True)[1])


def norms_and_hoyer(rows: Tensor, columns: Columns = ALL) -> tuple[Tensor, Tensor]:
    """Both of these for (c, n, L, C), in one reading."""
    if rows.shape[-1] > PIECE:  # which would be too many to sum in float32
        return condition_norms(rows, columns), location_hoyer(rows)
    norms, hoyer = _read(rows.contiguous().numpy(), True, columns != L2, True)
    return torch.from_numpy(norms[..., columns]), torch.from_numpy(hoyer)


def centre(rows: Tensor, shift: Tensor, out: Tensor, total: Tensor) -> None:
    """Write `rows - shift` (n, C) to `out` in float64, and add the sum over rows to `total` (C,)."""
    _centre(rows.contiguous().numpy(), shift.numpy(), out.numpy(), total.numpy())


def _read(x: np.ndarray, norms: bool, largest: bool, sparsity: bool) -> tuple[np.ndarray, np.ndarray]:
    """L1, L2 and Linf norms (n, c, 3), and Hoyer ratios and silent shares (n, c, 2), of `x` (c, n, L, C).

    What is not asked for is left as it is. Every one of torch's threads takes a range of the images, which do not mix,
    so nothing depends on how many there are.
    """
    conditions, images = x.shape[:2]
    out = np.empty((images, conditions, 3)), np.empty((images, conditions, 2))
    shared_out(_statistics, images, x.size, x, *out, norms, largest, sparsity)
    return out


def shared_out(kernel: Callable[..., None], rows: int, numbers: int, *arguments: Any) -> None:
    """`kernel(*arguments, first, last)`, every one of torch's threads taking a range of the rows if there is enough
    to do; `numbers` are those of all rows together."""
    parts = min(torch.get_num_threads(), rows, numbers // SHARE)
    if parts <= 1:
        kernel(*arguments, 0, rows)
        return
    bounds = [rows * part // parts for part in range(parts + 1)]
    list(_pool(parts).map(functools.partial(kernel, *arguments), bounds[:-1], bounds[1:]))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="netprobe")


@compiled
def _statistics(x, norms_out, hoyer_out, norms, largest, sparsity, first, last):
    conditions, _, locations, channels = x.shape
    step = max(1, PIECE // channels)
    absolute, squared = np.empty(step, np.float32), np.empty(step, np.float32)
    bits, found = np.zeros(conditions, np.int32), np.empty((conditions, 4))
    for image in range(first, last):
        bits[:], found[:] = 0, 0
        for start in range(0, locations, step):
            clean = x[0, image, start : start + step]
            for condition in range(conditions):
                piece = x[condition, image, start : start + step]
                a = q = 0.0
                if sparsity:
                    _sum_rows(piece, absolute, squared)
                    ratios, live, a, q = _ratios(piece, absolute, squared)
                    found[condition, 2] += ratios
                    found[condition, 3] += live
                if norms:
                    flat, top = piece.reshape(-1), np.int32(0)
                    if condition:
                        a, q, top = _change(flat, clean.reshape(-1), largest)
                    elif not sparsity:  # else the sums over rows have told
                        a, q = _sums(flat)
                    if largest and not condition:
                        top = _largest_bits(flat.view(np.int32))
                    found[condition, 0] += a
                    found[condition, 1] += q
                    bits[condition] = max(bits[condition], top)
        for condition in range(conditions):
            if norms:
                norms_out[image, condition, 0] = found[condition, 0]
                norms_out[image, condition, 1] = math.sqrt(found[condition, 1])
                norms_out[image, condition, 2] = bits.view(np.float32)[condition]
            if sparsity:
                ratios, live = found[condition, 2], found[condition, 3]
                mean = (ratios / live - 1) / (channels - 1) if live and channels > 1 else np.nan
                hoyer_out[image, condition, 0] = mean
                hoyer_out[image, condition, 1] = 1 - live / locations


@compiled(fastmath=SUMS)
def _sum_rows(rows, absolute, squared):
    """sum |x| and sum x^2 of every row."""
    for row in range(len(rows)):
        a = q = np.float32(0)
        for channel in range(rows.shape[1]):  # `_sums_in_float32`: for 16 channels its call costs more than the sums
            a += abs(rows[row, channel])
            q += rows[row, channel] * rows[row, channel]
        absolute[row], squared[row] = a, q


@compiled
def _ratios(rows, absolute, squared):
    """(sum |x|)^2 / sum x^2 of all rows that are not all zero, together, and their number; and both sums."""
    ratios, a, q, safe = _ratios_in_float32(absolute, squared, len(rows))
    if safe:
        return ratios, len(rows), a, q
    ratios, live, a, q = 0.0, 0, 0.0, 0.0
    for row in range(len(rows)):
        of_row = np.float64(absolute[row]), np.float64(squared[row])
        if not TINY < squared[row] < HUGE:
            of_row = _sums_in_float64(rows[row])
        a += of_row[0]
        q += of_row[1]
        if of_row[1] != 0:
            ratios += of_row[0] * of_row[0] / of_row[1]
            live += 1
    return ratios, live, a, q


@compiled(fastmath=SUMS, error_model="numpy")  # Python's error at 0 / 0 would keep the loop from vector instructions
def _ratios_in_float32(absolute, squared, count):
    ratios, total, power, unsafe = 0.0, 0.0, 0.0, 0
    for row in range(count):
        a, q = np.float64(absolute[row]), np.float64(squared[row])
        ratios += a * a / q
        total += a
        power += q
        unsafe += not TINY < squared[row] < HUGE
    return ratios, total, power, unsafe == 0


@compiled
def _centre(rows, shift, out, total):
    for row in range(len(rows)):
        for channel in range(len(shift)):
            out[row, channel] = rows[row, channel] - shift[channel]
            total[channel] += out[row, channel]


@compiled
def _sums(x):
    """sum |x| and sum x^2."""
    a, q = _sums_in_float32(x)
    return (np.float64(a), np.float64(q)) if TINY < q < HUGE else _sums_in_float64(x)


@compiled
def _change(x, y, largest):
    """sum |x - y|, sum (x - y)^2, and if asked the bits of the largest |x - y|, else 0."""
    a, q, top = _change_and_largest(x, y) if largest else _change_in_float32(x, y)
    if TINY < q < HUGE:
        return np.float64(a), np.float64(q), top
    a, q = _sums_in_float64(x - y)
    return a, q, top


@compiled(fastmath=SUMS)
def _sums_in_float32(x):
    absolute = squared = np.float32(0)
    for i in range(len(x)):
        absolute += abs(x[i])
        squared += x[i] * x[i]
    return absolute, squared


@compiled(fastmath=SUMS)
def _sums_in_float64(x):
    absolute = squared = 0.0
    for i in range(len(x)):
        value = np.float64(x[i])
        absolute += abs(value)
        squared += value * value
    return absolute, squared


@compiled(fastmath=SUMS)
def _change_in_float32(x, y):
    absolute = squared = np.float32(0)
    for i in range(len(x)):
        difference = x[i] - y[i]
        absolute += abs(difference)
        squared += difference * difference
    return absolute, squared, np.int32(0)


@compiled(fastmath=SUMS)
def _change_and_largest(x, y):
    """As `_change_in_float32`, and the bits of the largest, as in `_largest_bits`, in the same loop."""
    absolute = squared = np.float32(0)
    largest = np.int32(0)
    for i in range(len(x)):
        difference = np.float32(x[i] - y[i])
        absolute += abs(difference)
        squared += difference * difference
        largest = max(largest, difference.view(np.int32) & np.int32(0x7FFFFFFF))
    return absolute, squared, largest


@compiled
def _largest_bits(x):
    """The bits of the largest |x|, x given by its bits: in that order integers vectorise, and NaN is above infinity."""
    largest = np.int32(0)
    for i in range(len(x)):
        largest = max(largest, x[i] & np.int32(0x7FFFFFFF))
    return largest

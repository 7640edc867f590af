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

SUMS = {"reassoc", "contract", "nsz"}
"""Licence to reorder a sum, which is what lets it use vector instructions; NaN and infinity keep their meaning."""


def _compiled(function: Callable | None = None, **options: Any) -> Callable:
    """`numba.njit`, kept on disk where some folder for that can be written to."""
    if function is None:
        return functools.partial(_compiled, **options)
    try:
        return numba.njit(function, nogil=True, cache=True, **options)
    except RuntimeError:  # a read-only installation without a home: compile anew in every process, for a second
        return numba.njit(function, nogil=True, **options)


def fits(x: Tensor) -> bool:
    """Whether these routines can take `x`."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def condition_norms(flat: Tensor, largest: bool) -> Tensor:
    """L1, L2 and Linf norm of condition 0 and of the others' differences from it: (c, n, units) -> (c, n, 3) float64.

    Without `largest` the Linf norm is left out (zero).
    """
    x = flat.contiguous().numpy()
    out = np.empty((*x.shape[:2], 3))
    _shared(_norms, x.shape[1], x, out, largest)
    return torch.from_numpy(out)


def location_hoyer(rows: Tensor) -> Tensor:
    """Mean squared-Hoyer ratio over locations that are not all zero, and the share that is: (n, L, C) -> (n, 2)."""
    x = rows.contiguous().numpy()
    out = np.empty((len(x), 2))
    _shared(_hoyer, len(x), x, out)
    return torch.from_numpy(out)


def centre(rows: Tensor, shift: Tensor, out: Tensor, total: Tensor) -> None:
    """Write `rows - shift` (n, C) to `out` in float64, and add the sum over rows to `total` (C,)."""
    _centre(rows.contiguous().numpy(), shift.numpy(), out.numpy(), total.numpy())


def _shared(kernel: Callable, images: int, x: np.ndarray, *arguments: Any) -> None:
    """Run `kernel` on all images, a range of them on each of torch's threads; images do not mix, so nothing depends
    on how many there are."""
    parts = min(torch.get_num_threads(), images, x.size // SHARE)
    if parts <= 1:
        kernel(x, *arguments, 0, images)
        return
    bounds = [images * part // parts for part in range(parts + 1)]
    list(_pool(parts).map(lambda first, last: kernel(x, *arguments, first, last), bounds[:-1], bounds[1:]))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="netprobe")


@_compiled
def _norms(flat, out, largest, first, last):
    conditions, _, units = flat.shape
    difference = np.empty(PIECE, np.float32)
    bits = np.zeros(conditions, np.int32)
    for image in range(first, last):
        out[:, image], bits[:] = 0, 0
        for start in range(0, units, PIECE):
            clean = flat[0, image, start : start + PIECE]
            for condition in range(conditions):
                x = clean
                if condition:
                    x = _subtract(flat[condition, image, start : start + PIECE], clean, difference)
                absolute, squared = _sums(x)
                out[condition, image, 0] += absolute
                out[condition, image, 1] += squared
                if largest:
                    bits[condition] = max(bits[condition], _largest_bits(x.view(np.int32)))
        for condition in range(conditions):
            out[condition, image, 1] = math.sqrt(out[condition, image, 1])
            out[condition, image, 2] = bits.view(np.float32)[condition]


@_compiled(fastmath=SUMS)
def _hoyer(rows, out, first, last):
    _, locations, channels = rows.shape
    for image in range(first, last):
        total, live = 0.0, 0
        for location in range(locations):
            absolute = squared = np.float32(0)
            for channel in range(channels):  # `_sums`, written out: for 16 channels its call costs more than the sums
                absolute += abs(rows[image, location, channel])
                squared += rows[image, location, channel] * rows[image, location, channel]
            a, q = np.float64(absolute), np.float64(squared)
            if not TINY < squared < HUGE:
                a, q = _sums_in_float64(rows[image, location])
            if q != 0:
                total += a * a / q
                live += 1
        out[image, 0] = (total / live - 1) / (channels - 1) if live and channels > 1 else np.nan
        out[image, 1] = 1 - live / locations


@_compiled
def _centre(rows, shift, out, total):
    for row in range(len(rows)):
        for channel in range(len(shift)):
            out[row, channel] = rows[row, channel] - shift[channel]
            total[channel] += out[row, channel]


@_compiled
def _sums(x):
    """sum |x| and sum x^2."""
    absolute, squared = _sums_in_float32(x)
    if TINY < squared < HUGE:
        return np.float64(absolute), np.float64(squared)
    return _sums_in_float64(x)


@_compiled(fastmath=SUMS)
def _sums_in_float32(x):
    absolute = squared = np.float32(0)
    for i in range(len(x)):
        absolute += abs(x[i])
        squared += x[i] * x[i]
    return absolute, squared


@_compiled(fastmath=SUMS)
def _sums_in_float64(x):
    absolute = squared = 0.0
    for i in range(len(x)):
        value = np.float64(x[i])
        absolute += abs(value)
        squared += value * value
    return absolute, squared


@_compiled
def _subtract(x, y, out):
    for i in range(len(x)):
        out[i] = x[i] - y[i]
    return out[: len(x)]


@_compiled
def _largest_bits(x):
    """The bits of the largest |x|, x given by its bits: in that order integers vectorise, and NaN is above infinity."""
    largest = np.int32(0)
    for i in range(len(x)):
        largest = max(largest, x[i] & np.int32(0x7FFFFFFF))
    return largest

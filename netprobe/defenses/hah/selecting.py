"""The k-th smallest of many rows of numbers, without sorting them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from netprobe.probing.fused import compiled, fits, shared_out

MAGNITUDE, LEAST = np.int32(0x7FFFFFFF), np.int32(-0x80000000)


def kth_smallest(rows: Tensor, k: int) -> Tensor:
    """The k-th smallest, k from 1, along the last axis of `rows` (..., n) -> (..., 1); no gradient.

    Float32 on a CPU: the bound that k numbers are at most, by halving an interval of whole numbers, which are ordered
    as the floats are whose bits they are; about fifteen counts of a row that stays in first-level cache. Elsewhere
    `torch.kthvalue`, which on a CPU takes several times as long (tests/benchmarks/hah_block.py).
    """
    rows = rows.detach()
    if rows.device.type == "cpu" and rows.dtype in (torch.float16, torch.bfloat16):
        return kth_smallest(rows.float(), k).to(rows.dtype)  # exact: the result is one of the numbers
    if not fits(rows):
        return rows.kthvalue(k, -1, keepdim=True).values
    flat = rows.contiguous().numpy().reshape(-1, rows.shape[-1]).view(np.int32)
    found = np.empty(len(flat), np.int32)
    shared_out(_select, len(flat), flat.size, flat, np.int32(k), found)
    return torch.from_numpy(found.view(np.float32)).view(*rows.shape[:-1], 1)


@compiled
def _select(rows, k, found, first, last):
    keys = np.empty(rows.shape[1], np.int32)
    for row in range(first, last):
        key = _kth(rows[row], k, keys)
        found[row] = key ^ ((key >> np.int32(31)) & MAGNITUDE)


@compiled
def _kth(bits, k, keys):
    low, high = _ordered(bits, keys)
    while low < high:
        middle = np.int32(low + (np.int64(high) - low) // 2)
        count = _at_most(keys, middle)
        if count == k:
            return _largest_at_most(keys, middle)
        if count > k:
            high = middle
        else:
            low = np.int32(middle + 1)
    return low


@compiled
def _ordered(bits, keys):
    """Whole numbers ordered as the floats are whose bits are given; their smallest and largest."""
    low, high = MAGNITUDE, LEAST
    for i in range(len(bits)):
        key = bits[i] ^ ((bits[i] >> np.int32(31)) & MAGNITUDE)
        keys[i] = key
        low, high = min(low, key), max(high, key)
    return low, high


@compiled
def _at_most(keys, bound):
    count = np.int32(0)
    for i in range(len(keys)):
        count += np.int32(keys[i] <= bound)
    return count


@compiled
def _largest_at_most(keys, bound):
    largest = LEAST
    for i in range(len(keys)):
        largest = max(largest, keys[i] if keys[i] <= bound else LEAST)
    return largest

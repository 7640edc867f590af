"""A permutation of 0 ... n - 1 that is computed place by place, so that none of it is kept."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 6
FACTOR, STEP = 0x2545F4914F6CDD1D, 0x1E3779B97F4A7C15


def shuffled(places: Tensor, n: int, key: int) -> Tensor:
    """Where the permutation `key` of 0 ... n - 1 has sent each of `places`, int64 (K,); any subset costs K alone.

    A Feistel network permutes the smallest square of a power of two that is at least n; what lands at n or above is
    sent on until it lands below (cycle walking), on average fewer than four times.
    """
    half = max((n - 1).bit_length() + 1, 2) // 2
    sent = _feistel(places, half, key)
    while (outside := sent >= n).any():
        sent[outside] = _feistel(sent[outside], half, key)
    return sent


def _feistel(values: Tensor, half: int, key: int) -> Tensor:
    """A permutation of the numbers of 2 `half` bits: each round is undone by doing it again."""
    mask = (1 << half) - 1
    left, right = values >> half, values & mask
    for number in range(ROUNDS):
        left, right = right, left ^ (_mixed(right, key * ROUNDS + number) & mask)
    return (left << half) | right


def _mixed(values: Tensor, key: int) -> Tensor:
    """Bits of `values` and `key` well stirred; int64 arithmetic that wraps around."""
    mixed = values + torch.tensor(_wrapped((key + 1) * STEP), device=values.device)
    for shift in (31, 29, 32):
        mixed = (mixed ^ (mixed >> shift)) * FACTOR
    return mixed ^ (mixed >> 33)


def _wrapped(number: int) -> int:
    """The int64 that `number` wraps around to."""
    return (number + 2**63) % 2**64 - 2**63

"""Pairs of images i < j, counted row by row: (0, 1), (0, 2), ..., (0, n - 1), (1, 2), ..., never held all at once."""

from __future__ import annotations

from torch import Tensor

from netprobe.errors import NetprobeError


def pair_count(n: int) -> int:
    """How many pairs i < j of n images there are."""
    return n * (n - 1) // 2


def pairs_at(ranks: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The pairs (i, j) at the places `ranks` (int64) of the list of all pairs of n images, without that list.

        rank(i, j) = i (2 n - i - 1) / 2 + j - i - 1

    A permutation of 0 ... pair_count(n) - 1 is thus a shuffled list of all pairs. NetprobeError for a rank outside.
    """
    if len(ranks) and not 0 <= int(ranks.min()) <= int(ranks.max()) < pair_count(n):
        raise NetprobeError(f"{n} images have pairs 0 to {pair_count(n) - 1}; asked for {ranks.min()} to {ranks.max()}")
    half = n - 0.5
    i = (half - (half * half - 2.0 * ranks.double()).sqrt()).long().clamp(0, max(n - 2, 0))
    i -= (_first(i, n) > ranks).long()  # the square root may be off by one where a row ends
    i += (_first(i + 1, n) <= ranks).long()
    return i, ranks - _first(i, n) + i + 1


def _first(i: Tensor, n: int) -> Tensor:
    """The rank of (i, i + 1)."""
    return i * (2 * n - i - 1) // 2

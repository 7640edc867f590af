"""Choosing a few samples that stand for all of them."""

from __future__ import annotations

import numpy as np

from netprobe.data.checks import whole_number
from netprobe.errors import NetprobeError


def stratified(labels: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Positions of `n` samples, in their original order, in which every class keeps its share.

    The members of class k, shuffled, are given the keys (r + 1/2) / N_k, r = 0, 1, ...; the `n` smallest keys
    win and ties between classes are broken at random. This is Webster's (Sainte-Laguë) apportionment: classes
    of equal size differ by at most one sample, no class is asked for more than it has, and with one seed the
    choice for a smaller `n` is contained in the choice for a larger one.

    Parameters
    ----------
    labels : (N,) integers.
    n : how many, 1 <= n <= N; anything else is an error naming N.
    seed : of numpy's default generator; the global random state is untouched.

    Returns
    -------
    (n,) int64, increasing. Cost O(N log N).

    >>> import numpy as np
    >>> import netprobe as npb
    >>> labels = np.array([0] * 6 + [1] * 3)
    >>> labels[npb.data.stratified(labels, 3)]
    array([0, 0, 1])
    """
    labels = np.asarray(labels)
    n = check_count(n, len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    _, klass, sizes = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    key = (_rank_within(klass, sizes) + 0.5) / sizes[klass]
    return np.sort(shuffled[np.argsort(key, kind="stable")[:n]])


def check_count(n: int, available: int) -> int:
    """`n` as an int, or an error when there are not so many samples."""
    count = whole_number(n, "limit")
    if count > available:
        raise NetprobeError(f"limit={count} but there are {available} samples: choose a limit from 1 to {available}")
    return count


def _rank_within(klass: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How many earlier elements have the same class, for every element."""
    rank = np.empty(len(klass), np.int64)
    rank[np.argsort(klass, kind="stable")] = np.arange(len(klass)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank

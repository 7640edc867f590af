"""Correlations between similarity matrices over pairs of images, and over resamples of the images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

METHODS = ("pearson", "spearman")
ROUND_OFF = 64 * float(np.finfo(np.float64).eps)
"""What varies by less than this share of its size is constant."""


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """The pairs i < j of a symmetric matrix (..., image, image), row by row: (..., pair)."""
    return matrix[..., *np.triu_indices(matrix.shape[-1], 1)]


class Pairs:
    """Values (matrix, pair) of all pairs of `images` images, to be correlated again and again under other weights.

    A pair of weight 2 is there twice, and one of weight 0 is not there.
    """

    def __init__(self, values: np.ndarray, images: int) -> None:
        self.images = images
        constant = np.ptp(values, axis=-1) <= ROUND_OFF * np.abs(values).max(-1)
        usable = np.isfinite(values).all(-1) & ~constant
        # What does not vary, or is not defined for a pair, becomes 0 and has no correlation.
        self._values = np.where(usable[:, None], values - values.mean(-1, keepdims=True), 0.0)
        self._ties = [_Ties(row) for row in self._values]

    def scores(self, method: str, weights: np.ndarray | None = None) -> np.ndarray:
        """What Pearson's correlation is computed of: the values, or their ranks among pairs of these weights."""
        if method == "pearson":
            return self._values
        weights = np.ones(self._values.shape[1]) if weights is None else weights
        return np.array([ties.ranks(weights) for ties in self._ties])

    def correlations(self, method: str, others: int, weights: np.ndarray | None = None) -> np.ndarray:
        """Of every matrix with the first `others` of them, (matrix, other); NaN where one of the two does not vary."""
        weights = np.ones(self._values.shape[1]) if weights is None else weights
        scores = standardised(self.scores(method, weights), weights)
        return np.clip((scores * weights) @ scores[:others].T, -1, 1)


class _Ties:
    """The order of some values, and which of them are equal."""

    def __init__(self, values: np.ndarray) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        new = np.r_[True, ordered[1:] != ordered[:-1]]
        self._starts = np.flatnonzero(new)
        self._group = np.cumsum(new) - 1

    def ranks(self, weights: np.ndarray) -> np.ndarray:
        """The mean rank of every value when each is there `weights` times."""
        upto = np.r_[0.0, np.cumsum(weights[self.order])]
        ends = np.r_[self._starts[1:], len(self.order)]
        middle = (upto[self._starts] + upto[ends] + 1) / 2
        ranks = np.empty(len(self.order))
        ranks[self.order] = middle[self._group]
        return ranks


def standardised(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of weighted mean 0 and weighted sum of squares 1; NaN for what is constant."""
    centred = rows - (rows @ weights / weights.sum())[:, None]
    squares, scale = ((part**2) @ weights for part in (centred, rows))
    return centred / np.sqrt(np.where(squares > ROUND_OFF**2 * scale, squares, np.nan))[:, None]


def resampled(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Weights of pairs i < j in resamples of the images with replacement; pairs of an image with itself are left out.

    An image drawn a times and one drawn b times make a b pairs. Resamples of fewer than three different images, which
    have no correlation, are drawn again.
    """
    rng, made = np.random.default_rng(seed), 0
    while made < resamples:
        drawn = np.bincount(rng.integers(0, images, images), minlength=images).astype(float)
        if (drawn > 0).sum() >= 3:
            made += 1
            yield off_diagonal(np.outer(drawn, drawn))


def permuted(rows: np.ndarray, images: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    """`rows` (matrix, pair) with the images of all of them in another random order."""
    rng, place = np.random.default_rng(seed), np.zeros((images, images), dtype=np.int64)
    first, second = np.triu_indices(images, 1)
    place[first, second] = place[second, first] = np.arange(len(first))
    for _ in range(permutations):
        order = rng.permutation(images)
        yield rows[:, place[order[first], order[second]]]

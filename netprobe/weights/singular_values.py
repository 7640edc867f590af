"""A set of singular values, each with its multiplicity, and what is read off it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

LEVELS = (np.arange(256) / 255) ** 2
"""Relative indices at which spectra are stored: 0 the largest value, 1 the smallest, dense near the largest."""


@dataclass(frozen=True)
class SingularValues:
    """All singular values of an operator, or their estimated distribution.

    `values` descend; `multiplicity` says how often each counts, and need not be whole for an estimated distribution;
    `method` is what computed them, `error` the bound (for estimates: the estimate) of their error over the largest.
    """

    values: np.ndarray
    multiplicity: np.ndarray
    method: str
    error: float

    @classmethod
    def gathered(
        cls,
        parts: Sequence[tuple[Tensor | np.ndarray, float | Tensor | np.ndarray]],
        count: int,
        method: str,
        error: float,
    ) -> SingularValues:
        """From arrays of values and their multiplicities; zeros make up what is missing to `count`."""
        pairs = [(np.asarray(v, dtype=np.float64), np.asarray(m, dtype=np.float64)) for v, m in parts]
        values = np.concatenate([v.ravel() for v, _ in pairs])
        multiplicity = np.concatenate([np.broadcast_to(m, v.shape).ravel() for v, m in pairs])
        missing = count - multiplicity.sum()
        values, multiplicity = np.append(values, 0.0), np.append(multiplicity, missing)
        order = np.argsort(-values, kind="stable")[: len(values) - (missing <= 0)]
        return cls(values[order], multiplicity[order], method, error)

    @property
    def count(self) -> float:
        """How many there are."""
        return float(self.multiplicity.sum())

    @property
    def largest(self) -> float:
        """The operator norm."""
        return float(self.values[0])

    def ranked(self, ranks: np.ndarray) -> np.ndarray:
        """The values at `ranks`, from 0 for the largest; between whole ranks, interpolated."""
        ends = np.cumsum(self.multiplicity)
        below, share = np.floor(ranks), np.mod(ranks, 1)

        def at(rank: np.ndarray) -> np.ndarray:
            return self.values[np.minimum(np.searchsorted(ends, rank + 0.5), len(self.values) - 1)]

        return at(below) * (1 - share) + at(np.minimum(below + 1, self.count - 1)) * share

    def at_levels(self, levels: np.ndarray = LEVELS) -> np.ndarray:
        """The values at relative indices in [0, 1]; 0.5 is the median."""
        return self.ranked(levels * (self.count - 1))

    def leading(self, k: int) -> np.ndarray:
        """The k largest, NaN where there are fewer."""
        ranks = np.arange(k, dtype=np.float64)
        return np.where(ranks < self.count, self.ranked(np.minimum(ranks, self.count - 1)), np.nan)

    def trailing(self, k: int) -> np.ndarray:
        """The k smallest, the smallest first, NaN where there are fewer."""
        ranks = self.count - 1 - np.arange(k, dtype=np.float64)
        return np.where(ranks >= 0, self.ranked(np.maximum(ranks, 0)), np.nan)

    def led_by(self, leading: np.ndarray) -> SingularValues:
        """The same, with these as its largest values, each counted once."""
        known = len(leading)
        rest = np.diff(np.maximum(np.cumsum(self.multiplicity) - known, 0), prepend=0.0)
        values = np.append(leading, np.minimum(self.values, leading[-1])[rest > 0])
        return dataclasses.replace(self, values=values, multiplicity=np.append(np.ones(known), rest[rest > 0]))

    def expanded(self) -> np.ndarray:
        """Every value as often as it counts."""
        return np.repeat(self.values, np.rint(self.multiplicity).astype(int))

    @property
    def effective_rank(self) -> float:
        """exp(-sum p log p), p = s / sum s (Roy and Vetterli 2007); NaN for the zero operator."""
        total = float(self.values @ self.multiplicity)
        share = self.values[self.values > 0] / total if total else np.full(1, np.nan)
        weight = self.multiplicity[self.values > 0] if total else 1.0
        return float(np.exp(-np.sum(weight * share * np.log(share))))


def distance(one: SingularValues, other: SingularValues) -> float:
    """Wasserstein distance W1 between two distributions of singular values, each of total weight 1."""
    nodes = np.concatenate([one.values, other.values])
    order = np.argsort(nodes)
    shares = np.concatenate([one.multiplicity / one.count, -other.multiplicity / other.count])[order]
    return float(np.sum(np.abs(np.cumsum(shares)[:-1]) * np.diff(nodes[order])))

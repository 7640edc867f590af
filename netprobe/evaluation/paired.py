"""Two shares of the same images: their difference with its interval, and whether it is more than chance."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from netprobe.uncertainty import wilson


class Paired(NamedTuple):
    """How often one of two paired yes-or-no answers is yes and the other is no.

    both, only_first, only_second, neither   numbers of images
    """

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> Paired:
        """From answers (n,) of the same images."""
        first, second = first.astype(bool), second.astype(bool)
        pairs = ((first, second), (first, ~second), (~first, second), (~first, ~second))
        return cls(*(int((a & b).sum()) for a, b in pairs))

    @property
    def images(self) -> int:
        return sum(self)

    @property
    def difference(self) -> float:
        """Share of the first minus share of the second; NaN without images."""
        return (self.only_first - self.only_second) / self.images if self.images else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference d = p1 - p2, from the Wilson intervals (l, u) of the two shares:

            d - sqrt((p1 - l1)^2 - 2 phi (p1 - l1)(u2 - p2) + (u2 - p2)^2),   and likewise above,

        phi being the correlation of the two answers. Stays within [-1, 1] and is no point when nothing differs. (NaN,
        NaN) without images. Source: Newcombe, Statistics in Medicine 17 (1998) 2635, method 10, whose phi is corrected
        for continuity where it is positive.
        """
        if not self.images:
            return math.nan, math.nan
        first, second = self.both + self.only_first, self.both + self.only_second
        (l1, u1), (l2, u2) = wilson(first, self.images), wilson(second, self.images)
        p1, p2, phi = first / self.images, second / self.images, self._correlation()
        below = math.sqrt(max((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2, 0))
        above = math.sqrt(max((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2, 0))
        return self.difference - below, self.difference + above

    def _correlation(self) -> float:
        a, b, c, d = self
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        if not margins:
            return 0.0
        product = a * d - b * c
        corrected = max(product - self.images / 2, 0) if product > 0 else product
        return corrected / math.sqrt(margins)

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test, two-sided: how likely so uneven a split of the images that differ is by chance."""
        differing = self.only_first + self.only_second
        return float(stats.binomtest(self.only_first, differing).pvalue) if differing else 1.0

    @property
    def p_more(self) -> float:
        """One-sided: how likely at least so many `only_first` are if neither answer is really yes more often."""
        differing = self.only_first + self.only_second
        return float(stats.binomtest(self.only_first, differing, alternative="greater").pvalue) if differing else 1.0

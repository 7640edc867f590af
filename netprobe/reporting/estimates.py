"""A number with its interval, and how both are written."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value with its 95 % interval; NaN bounds where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def overlaps(self, other: Estimate) -> bool:
        """Whether the two intervals share a point; both must be bounded."""
        return self.low <= other.high and other.low <= self.high

    def write(self, digits: int, unit: str = "") -> str:
        """Such as 4.2 dB [3.9, 4.5]."""
        return " ".join(filter(None, (number(self.value, digits, unit), self.write_interval(digits))))

    def write_interval(self, digits: int) -> str:
        """Such as [3.9, 4.5]; nothing without an interval."""
        return f"[{number(self.low, digits)}, {number(self.high, digits)}]" if self.bounded else ""


def number(value: float, digits: int, unit: str = "") -> str:
    """`value` to so many digits after the point, with a true minus and words for what is no number."""
    if math.isnan(value):
        return "undefined"
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    sign = "−" if value < 0 and text.strip("0.") else ""
    return f"{sign}{text} {unit}".rstrip()


def of_draws(value: float, draws: np.ndarray) -> Estimate:
    """`value` with the percentile interval of its bootstrap `draws`; no interval if any draw is undefined."""
    low, high = np.quantile(draws, [0.025, 0.975]) if np.isfinite(draws).all() else (math.nan, math.nan)
    return Estimate(float(value), float(low), float(high))

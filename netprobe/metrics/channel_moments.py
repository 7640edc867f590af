"""Mean and variance of every channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from netprobe.metrics.base import Metric, Readings, variable
from netprobe.probing.observables import Layout, Observable, Observation
from netprobe.sites import Site
from netprobe.uncertainty import BLOCKS


class Spread:
    """Count, mean and variance of every column of rows x (n, C), accumulated in float64 around a provisional mean.

    state   count n,  shift m (the mean of the first rows seen),  total = sum (x - m),  squares = sum (x - m)^2
    mean    m + total / n
    variance    (squares - total^2 / n) / (n - 1)

    `netprobe.probing.streaming.Moments` without what is off the diagonal: n C operations and 24 C bytes instead of C^2.
    """

    def __init__(self, size: int, device: torch.device | str = "cpu", shift: Tensor | None = None) -> None:
        self.count = 0
        self.shift = shift
        self.total = torch.zeros(size, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.total)

    def update(self, rows: Tensor) -> None:
        """Add `rows`, shape (n, C)."""
        if self.shift is None:
            self.shift = rows.mean(0, dtype=torch.float64)
        centred = rows.double() - self.shift
        self.count += len(rows)
        self.total += centred.sum(0)
        self.squares += centred.square_().sum(0)

    def merge(self, other: Spread, sign: int = 1) -> Spread:
        """Add what `other` has seen, or with sign -1 take it away; `other` is unchanged. Returns self."""
        if not other.count:
            return self
        if self.shift is None:
            self.shift = other.shift
        gap = other.shift - self.shift
        self.count += sign * other.count
        self.total += sign * (other.total + other.count * gap)
        self.squares += sign * (other.squares + 2 * gap * other.total + other.count * gap**2)
        return self

    @property
    def mean(self) -> np.ndarray:
        """Shape (C,); NaN before the first row, and where a number was not finite."""
        shift = torch.nan if self.shift is None else self.shift
        return _finite(shift + self.total / max(self.count, 1))

    @property
    def variance(self) -> np.ndarray:
        """Unbiased, shape (C,); NaN for fewer than two rows."""
        n = self.count
        return _finite((self.squares - self.total**2 / max(n, 1)).clamp(min=0) / (n - 1 if n > 1 else torch.nan))

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, as tensors."""
        shift = {} if self.shift is None else {"shift": self.shift}
        return {"count": torch.tensor(self.count), "total": self.total, "squares": self.squares, **shift}

    @classmethod
    def restore(cls, state: dict[str, Tensor]) -> Spread:
        """The accumulator that `state()` described."""
        spread = cls(len(state["total"]), state["total"].device, state.get("shift"))
        spread.count = int(state["count"])
        spread.total, spread.squares = state["total"].clone(), state["squares"].clone()
        return spread


def _finite(values: Tensor) -> np.ndarray:
    return torch.where(values.isfinite(), values, torch.nan).cpu().numpy()


class ChannelSpread(Observable):
    """`Spread` of the channel rows of a site, under every condition and in every jackknife block (0: one block)."""

    def __init__(self, block: int = 0) -> None:
        self.block = block
        self.key = ("channel spread",)
        self.detail = int(block > 0)
        self.parts: dict[tuple[int, int], Spread] = {}

    def update(self, observation: Observation) -> None:
        rows = observation.rows
        blocks = observation.images // self.block if self.block else torch.zeros_like(observation.images)
        for block in blocks.unique().tolist():
            members = (blocks == block).to(rows.device)
            for condition in range(observation.conditions):
                part = self.parts.setdefault((condition, block), Spread(rows.shape[-1], rows.device))
                part.update(rows[condition, members].flatten(0, 1))

    def merge(self, other: ChannelSpread) -> None:
        for place, part in other.parts.items():
            self.parts.setdefault(place, Spread(len(part.total), part.total.device)).merge(part)

    def whole(self, condition: int) -> Spread:
        """All images under `condition`."""
        parts = [part for (c, _), part in sorted(self.parts.items(), key=lambda item: item[0]) if c == condition]
        total = Spread(len(parts[0].total), parts[0].total.device)
        for part in parts:
            total.merge(part)
        return total

    def left_out(self, condition: int, blocks: int) -> Iterator[Spread]:
        """All images but those of each block in turn; an empty `Spread` for a block that is still to come."""
        total = self.whole(condition)
        for block in range(blocks):
            rest = Spread(len(total.total), total.total.device, total.shift)
            if (condition, block) in self.parts:
                rest.merge(total).merge(self.parts[condition, block], -1)
            yield rest

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {f"{condition},{block}": part.state() for (condition, block), part in self.parts.items()}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        self.parts = {tuple(map(int, place.split(","))): Spread.restore(value) for place, value in state.items()}

    def bytes(self, site: Site, conditions: int) -> int:
        return 24 * site.channels * conditions * (BLOCKS if self.block else 1)


@dataclass(frozen=True)
class ChannelMoments(Metric):
    """Mean and variance of every channel over images and locations, clean and under each perturbation.

    Returns `mean` and `variance` (condition, site, channel), unbiased, in the units of the activations; `rows` (site),
    images times locations; and `jackknife_mean` and `jackknife_variance` (condition, site, block, channel), of all
    images but those of one block of neighbours. NaN beyond a site's channels, where an activation is not finite, and
    for the variance of one row. Neither larger nor smaller is better.

    State: 24 bytes per channel, site, condition and block; merging is exact. Needs no perturbation.
    """

    name: ClassVar[str] = "channel_moments"
    needs_perturbation: ClassVar[bool] = False

    def observables(self, layout: Layout) -> list[Observable]:
        return [ChannelSpread(layout.block)]

    def compute(self, readings: Readings) -> xr.Dataset:
        layout = readings.layout
        blocks = -(-layout.images // layout.block) if layout.block else 0
        width = max(site.channels for site in readings.sites)
        found, conditions = readings(("channel spread",)), range(len(readings.conditions))
        whole = [[site.whole(condition) for site in found] for condition in conditions]
        rest = [[list(site.left_out(condition, blocks)) for site in found] for condition in conditions]
        variables = {"rows": _rows(whole[0])} | _variables("", "", whole, width)
        if blocks:
            variables |= _variables("jackknife_", "block", rest, width)
        coords = {"block": np.arange(blocks)} if blocks else {}
        return readings.dataset(variables, channel=np.arange(width), **coords)


def _rows(sites: list[Spread]) -> xr.Variable:
    return variable("site", [site.count for site in sites], "rows", "1", "images times locations averaged over")


def _variables(prefix: str, dim: str, spreads: list, width: int) -> dict[str, xr.Variable]:
    """`mean` and `variance` of nested lists of `Spread`s, padded to so many channels."""
    about = ", all images but those of a block" if dim else ""
    return {
        f"{prefix}{name}": variable(
            f"condition site {dim} channel",
            _padded(spreads, width, lambda spread, name=name: getattr(spread, name)),
            f"{name} of the channel{about}",
            "1",
            f"{name} over images and locations, float64{about}",
        )
        for name in ("mean", "variance")
    }


def _padded(nested: list | Spread, width: int, read: Callable[[Spread], np.ndarray]) -> np.ndarray:
    if isinstance(nested, Spread):
        values = read(nested)
        return np.pad(values, (0, width - len(values)), constant_values=np.nan)
    return np.stack([_padded(each, width, read) for each in nested])

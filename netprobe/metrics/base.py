"""What a metric is, and what it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from netprobe.errors import NetprobeError
from netprobe.probing.observables import Layout, Observable
from netprobe.sites import Site

__all__ = ["Metric", "Readings", "interval", "variable"]


@dataclass(frozen=True)
class Readings:
    """What one model's pass left behind, for one metric: its sites, the conditions, the observables of each site,
    and the coordinates of each dim."""

    sites: Sequence[Site]
    conditions: Sequence[str]
    layout: Layout
    observables: dict[str, dict[tuple, Observable]]
    coords: dict[str, dict[str, Any]]

    @property
    def perturbations(self) -> Sequence[str]:
        """The conditions without "clean"."""
        return self.conditions[1:]

    def __call__(self, key: tuple) -> list[Any]:
        """The observables of that key, one per site, in run order."""
        return [self.observables[site.name][key] for site in self.sites]

    def per_image(self, key: tuple) -> np.ndarray:
        """Tables of a `PerImage` observable, shape (site, image, ...)."""
        return np.stack([observable.table.read()[1] for observable in self(key)])

    def dataset(self, variables: dict[str, xr.Variable], **coords: Any) -> xr.Dataset:
        """A Dataset of `variables` with the coordinates of their dims, and `coords`."""
        dims = {dim for variable in variables.values() for dim in variable.dims}
        known = {name: (dim, values) for dim in dims for name, values in self.coords.get(dim, {}).items()}
        bounds = {"bound": ["low", "high"]} if "bound" in dims else {}
        return xr.Dataset(variables, {**known, **bounds, **coords})


@dataclass(frozen=True)
class Metric(ABC):
    """A quantity of the sites of a network, clean or clean against perturbed. Its fields are its settings.

    at      "output" or "input": whether to listen to what the chosen sites return or to what they receive
    sites   patterns as in `netprobe.sites.selection`, for this metric alone; None uses those of the probe

    `needs_perturbation` is False for what clean images alone can tell.

    To write one: a frozen dataclass with a `name`, `observables` and `compute`. It can be given wherever a metric is
    asked for; an entry point of a package of yours in the group "netprobe.metrics" makes it known by name, and
    `netprobe.testing.check_metric` checks it.
    """

    at: str = "output"
    sites: str | None = None

    name: ClassVar[str]
    needs_perturbation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.at not in ("output", "input"):
            raise NetprobeError(f"{self.name}: at={self.at!r} is neither 'output' nor 'input'")

    @abstractmethod
    def observables(self, layout: Layout) -> list[Observable]:
        """Fresh observables that one site needs."""

    @abstractmethod
    def compute(self, readings: Readings) -> xr.Dataset:
        """The quantity, from what was accumulated."""


def variable(dims: str, values: Any, long_name: str, units: str, definition: str) -> xr.Variable:
    """A variable that carries its own meaning; `dims` are separated by blanks."""
    return xr.Variable(dims.split(), values, {"long_name": long_name, "units": units, "definition": definition})


def interval(dims: str, values: Any, of: xr.Variable, how: str) -> xr.Variable:
    """The 95 % interval of the variable `of`: the same dims and a last one, bound = low, high."""
    attrs = of.attrs
    return variable(f"{dims} bound", values, f"95 % interval of {attrs['long_name']}", attrs["units"], how)

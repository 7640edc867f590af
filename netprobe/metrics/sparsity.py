"""How sparse the activations are across channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import xarray as xr

from netprobe.metrics.base import Metric, Readings, interval, variable
from netprobe.metrics.perturbation_ratio import BOOTSTRAP, _mean
from netprobe.probing.observables import Layout, LocationHoyer, Observable
from netprobe.uncertainty import bootstrap_interval


@dataclass(frozen=True)
class Hoyer(Metric):
    """Squared-Hoyer ratio of the activations, across the channel dimension at every location.

        H(a) = ((||a||_1 / ||a||_2)^2 - 1) / (C - 1) in [0, 1],   a in R^C: 0 for one nonzero channel, 1 for all equal
            in size

    Returns `hoyer` (condition, site), the mean over images of the mean over locations, with its bootstrap interval;
    `hoyer_image` (condition, site, image); and `silent`, the share of locations that are all zero and left out.
    Smaller is sparser. NaN for sites with one channel, or silent everywhere. Independent Gaussian channels give 2/pi
    = 0.64 for many channels, their ReLU about 0.32; listen after the non-linearity (`sites="relu"`, or `at="input"`
    of convolutions).

    State: two numbers per image, site and condition. Source: Bakiskan 2022, section 5.3 (where the exponent is
    misprinted).

    >>> from torch import nn
    >>> import netprobe as npb
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.Flatten(), nn.Linear(256, 10))
    >>> _ = nn.init.ones_(net[0].weight)  # four channels that are equal
    >>> digits, noise = npb.data.load("digits", limit=20), {"noise": npb.GaussianNoise(0.1)}
    >>> tree = npb.probe({"net": net}, digits, noise, npb.Hoyer(), "conv", preflight=False, progress=False)
    >>> tree["net/hoyer/hoyer"].sel(condition="clean").values
    array([1.])
    """

    name: ClassVar[str] = "hoyer"

    def observables(self, layout: Layout) -> list[Observable]:
        return [LocationHoyer()]

    def compute(self, readings: Readings) -> xr.Dataset:
        values = readings.per_image(LocationHoyer.key).transpose(3, 2, 0, 1)
        ratio, silent = values
        dims = "condition site"
        mean = variable(
            dims, _mean(ratio), "squared-Hoyer ratio", "1", "mean over images of hoyer_image; 0 is sparsest"
        )
        return readings.dataset(
            {
                "hoyer": mean,
                "hoyer_interval": interval(dims, bootstrap_interval(ratio), mean, BOOTSTRAP),
                "hoyer_image": variable(
                    f"{dims} image",
                    ratio,
                    "squared-Hoyer ratio",
                    "1",
                    "mean over locations of H(a); silent ones left out",
                ),
                "silent": variable(
                    dims,
                    silent.mean(-1),
                    "silent locations",
                    "1",
                    "share of locations with all channels zero",
                ),
            }
        )

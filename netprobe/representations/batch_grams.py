"""The Gram matrices of the images of each batch among themselves: N times the batch in memory, not N squared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from netprobe.metrics.base import Metric, Readings, variable
from netprobe.probing.observables import Layout, Observable, Observation
from netprobe.representations.grams import Grams


@dataclass(eq=False)
class BatchGrams(Observable):
    """The kernels (condition, image, image) of every batch, centred in the batch, float64, and sums of squares."""

    key = ("batch grams",)
    kernels: list[Tensor] = field(default_factory=list)
    squares: Tensor | float = 0.0

    def update(self, observation: Observation) -> None:
        units = observation.flat.double()
        self.squares = self.squares + units.square().sum((1, 2)).cpu()
        units = units - units.mean(1, keepdim=True)
        self.kernels.append((units @ units.transpose(1, 2)).cpu())

    def merge(self, other: BatchGrams) -> None:
        self.kernels += other.kernels
        self.squares = self.squares + other.squares

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {"kernels": {str(k): kernel for k, kernel in enumerate(self.kernels)}, "squares": {"": self.squares}}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        self.kernels, self.squares = list(state["kernels"].values()), state["squares"][""]


@dataclass(frozen=True)
class Kernels(Metric):
    """Keeps what CKA between any two sites needs: the whole Gram matrices, or those of each batch.

    Returns `spread` (condition, site) alone, the root mean square distance of an image from the mean of all (whole) or
    of its batch.
    """

    name: ClassVar[str] = "kernels"
    needs_perturbation: ClassVar[bool] = False
    whole: bool = True

    def observables(self, layout: Layout) -> list[Observable]:
        return [Grams() if self.whole else BatchGrams()]

    def compute(self, readings: Readings) -> xr.Dataset:
        traces = [traced(site, len(readings.conditions)) for site in readings(self.observables(readings.layout)[0].key)]
        spread = np.sqrt(np.array(traces).T / readings.layout.images)
        about = ("spread", "activation", "root mean square distance of an image from the mean")
        return readings.dataset({"spread": variable("condition site", spread, *about)})


def traced(kept: Grams | BatchGrams, conditions: int) -> list[float]:
    """The sum over images of squared distances from the mean, under each condition."""
    if isinstance(kept, Grams):
        return [float(np.trace(kept.gram(c).kernel)) for c in range(conditions)]
    return [float(sum(torch.trace(kernel[c]) for kernel in kept.kernels)) for c in range(conditions)]

"""A package that is not netprobe's, with one class of every kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from netprobe.defenses import Defense
from netprobe.defenses.regularisers import Penalty, Regulariser, Step, Subject
from netprobe.fields import real
from netprobe.metrics import Metric, Readings
from netprobe.metrics.base import variable
from netprobe.perturb import Perturbation
from netprobe.probing.observables import Layout, Norms, Observable


@dataclass(frozen=True)
class Energy(Metric):
    """E = mean over images of ||a' - a||_2^2."""

    name: ClassVar[str] = "energy"

    def observables(self, layout: Layout) -> list[Observable]:
        return [Norms(("2",))]

    def compute(self, readings: Readings) -> xr.Dataset:
        changes = readings.per_image(Norms(("2",)).key)[:, :, 1:, 0]  # (site, image, perturbation)
        energy = (changes**2).mean(1).T
        return readings.dataset(
            {"energy": variable("perturbation site", energy, "energy", "1", "mean of ||a' - a||^2")}
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Darken(Perturbation):
    """x' = max(x - by (x - low), low)."""

    name: ClassVar[str] = "darken"
    title: ClassVar[str] = "darkness"
    strength: ClassVar[str] = "by"
    example: ClassVar[str] = "0.2"

    by: float = field(kw_only=False, metadata=real(0, 1, help="share of the brightness that is taken away"))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        self.check_inputs(x)
        return self.box.clip(x.detach() - self.by * (x.detach() - self.low))


@dataclass(frozen=True, kw_only=True, repr=False)
class SmoothLabels(Defense):
    """L = CE(f(x), (1 - eps) y + eps / K)."""

    name: ClassVar[str] = "smooth-labels"
    title: ClassVar[str] = "label smoothing"

    eps: float = field(default=0.1, metadata=real(0, 1, help="share of the labels that is spread over all classes"))

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        logits = model(x)
        return {"loss": cross_entropy(logits, y, label_smoothing=self.eps), "logits": logits}


@dataclass(frozen=True, kw_only=True, repr=False)
class Centred(Regulariser):
    """R = the squared mean of all parameters."""

    name: ClassVar[str] = "centred"
    title: ClassVar[str] = "centred parameters"

    def penalty(self, subject: Subject) -> Penalty:
        return SquaredMean()

    def recorded(self) -> tuple[str, str, str]:
        return "squared mean of the parameters", "1", "(mean of all parameters)^2"


class SquaredMean(Penalty):
    """(mean of all parameters)^2."""

    def forward(self, model: nn.Module, step: Step) -> Tensor:
        return torch.cat([p.flatten().float() for p in model.parameters()]).mean().square()

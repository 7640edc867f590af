"""Attacks that the doubts make of their own accord: without gradients, or with those of another model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netprobe.devices import device_of
from netprobe.perturb.geometry import Box, Geometry
from netprobe.perturb.gradient import GradientAttack
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import normal


@dataclass(frozen=True, eq=False)
class Transferred:
    """What `attack` makes of the images for `surrogate`, whatever model it is then shown to.

    All its steps: a search that stops where the surrogate is just fooled hardly transfers. Unlike `Transfer` it takes
    the surrogate for what the evaluation says it is, by its name, and does not hash its weights.
    """

    attack: GradientAttack
    surrogate: nn.Module

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        device = device_of(self.surrogate)
        return self.attack(self.surrogate, x.to(device), y.to(device), generator=generator).to(x)


@dataclass(frozen=True)
class RandomSearch:
    """The first of `draws` random steps of full length that the model errs on, else the last; no gradients.

    A step goes to a random corner of the ball in Linf, along a random direction in L2, along a sparse one in L1.
    """

    eps: float
    geometry: Geometry
    box: Box
    draws: int = 20

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        found, fooled = x.clone(), torch.zeros_like(y, dtype=torch.bool)
        for _ in range(self.draws):
            step = self.geometry.steepest(normal(x, generator), x, self.box)
            tried = self.box.clip(x + self.eps * step)
            found[~fooled] = tried[~fooled]
            fooled |= predict(model, found).argmax(1) != y
        return found

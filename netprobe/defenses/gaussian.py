"""Training on noisy images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.defenses.crafting import Perturbing
from netprobe.defenses.natural import entropy
from netprobe.fields import real
from netprobe.perturb.noise import GaussianNoise


@dataclass(frozen=True, kw_only=True, repr=False)
class GaussianAugmentation(Perturbing):
    """L = CE(f(clip(x + n)), y), n ~ N(0, std^2 I) afresh for every image and epoch; clipped to the box."""

    name: ClassVar[str] = "gaussian"
    title: ClassVar[str] = "Gaussian-noise augmentation"

    std: float = field(default=0.1, metadata=real(0, help="standard deviation of the noise, in input units"))

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        noise = GaussianNoise(self.std, low=self.low, high=self.high)
        return entropy(model, noise.noisy(x, generator) if self.std else x, y)

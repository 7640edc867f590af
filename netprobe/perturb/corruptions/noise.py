"""Noise of sensors: Gaussian, shot, impulse and speckle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from netprobe.perturb.corruptions.base import Corruption, Levels
from netprobe.perturb.noise import SaltAndPepper
from netprobe.perturb.randomness import normal, poisson


@dataclass(frozen=True, kw_only=True, repr=False)
class AdditiveGaussianNoise(Corruption):
    """x' = clip(x + c n), n ~ N(0, 1) in every value: dim light."""

    name: ClassVar[str] = "gaussian_noise"
    title: ClassVar[str] = "gaussian_noise"
    levels: ClassVar[Levels] = Levels((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))

    def corrupted(self, x: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
        return torch.add(x, normal(x, generator), alpha=level)


@dataclass(frozen=True, kw_only=True, repr=False)
class ShotNoise(Corruption):
    """x' = clip(Poisson(c x) / c) in every value, of variance x / c before the clip: few photons."""

    name: ClassVar[str] = "shot_noise"
    title: ClassVar[str] = "shot_noise"
    levels: ClassVar[Levels] = Levels((500, 250, 100, 75, 50), (60, 25, 12, 5, 3))

    def corrupted(self, x: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
        return poisson(level * x, generator).div_(level)


@dataclass(frozen=True, kw_only=True, repr=False)
class ImpulseNoise(Corruption):
    """Every value becomes 0 or 1, each with probability c / 2: salt and pepper in each channel."""

    name: ClassVar[str] = "impulse_noise"
    title: ClassVar[str] = "impulse_noise"
    levels: ClassVar[Levels] = Levels((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))

    def corrupted(self, x: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
        return SaltAndPepper(level).noisy(x, generator)


@dataclass(frozen=True, kw_only=True, repr=False)
class SpeckleNoise(Corruption):
    """x' = clip(x + c x n), n ~ N(0, 1) in every value: brighter is noisier."""

    name: ClassVar[str] = "speckle_noise"
    title: ClassVar[str] = "speckle_noise"
    levels: ClassVar[Levels] = Levels((0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6))

    def corrupted(self, x: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
        return torch.addcmul(x, x, normal(x, generator), value=level)

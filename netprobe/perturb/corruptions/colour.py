"""Brightness, contrast and saturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from netprobe.perturb.corruptions.base import Corruption, Levels


@dataclass(frozen=True, kw_only=True, repr=False)
class Brightness(Corruption):
    """HSV value + c, clipped: daylight. Hue and saturation stay, so x' = x clip(V + c) / V with V = max over RGB.

    Black becomes grey. A grey image is its own V.
    """

    name: ClassVar[str] = "brightness"
    title: ClassVar[str] = "brightness"
    levels: ClassVar[Levels] = Levels((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))

    def corrupted(self, x: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
        value = x.amax(1, keepdim=True)
        share = torch.where(value > 0, x / value, 1)  # of the value, for each channel
        return share * (value + level).clamp_max(1)


@dataclass(frozen=True, kw_only=True, repr=False)
class Contrast(Corruption):
    """x' = (x - m) c + m, m the mean of each channel over the image."""

    name: ClassVar[str] = "contrast"
    title: ClassVar[str] = "contrast"
    levels: ClassVar[Levels] = Levels((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))

    def corrupted(self, x: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
        return torch.lerp(x.mean((2, 3), keepdim=True), x, level)


@dataclass(frozen=True, kw_only=True, repr=False)
class Saturate(Corruption):
    """HSV saturation * a + b, clipped; levels are (a, b). Not for grey images.

    With V = max and D = max - min over RGB the saturation is S = D / V, and x' = V - (V - x) S' / S. Where S = 0 the
    hue is 0, red, by convention, so that b > 0 tints grey pixels red: x' = (V, V (1 - b), V (1 - b)).
    """

    name: ClassVar[str] = "saturate"
    title: ClassVar[str] = "saturate"
    channels: ClassVar[tuple[int, ...]] = (3,)
    levels: ClassVar[Levels] = Levels(
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    )

    def corrupted(self, x: Tensor, level: tuple[float, float], generator: torch.Generator | None) -> Tensor:
        value = x.amax(1, keepdim=True)
        spread = value - x.amin(1, keepdim=True)
        towards = torch.where(spread > 0, (value - x) / spread, x.new_tensor([0, 1, 1]).view(-1, 1, 1))
        saturation = torch.where(value > 0, spread / value, 0)
        return value - towards * value * (level[0] * saturation + level[1]).clamp(0, 1)

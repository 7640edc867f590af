"""Fog and snow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from netprobe.outputs import widened
from netprobe.perturb.corruptions.base import Corruption, Levels, grey
from netprobe.perturb.corruptions.filters import centre_zoom
from netprobe.perturb.corruptions.motion import directions, motion_blurred
from netprobe.perturb.corruptions.plasma import plasma
from netprobe.perturb.randomness import normal


@dataclass(frozen=True, kw_only=True, repr=False)
class Fog(Corruption):
    """x' = clip((x + a plasma) m / (m + a)), m the largest value of the image; levels are (a, decay).

    The plasma (`plasma.plasma`) lies on a torus whose side is the next power of two; the image is its corner.
    """

    name: ClassVar[str] = "fog"
    title: ClassVar[str] = "fog"
    levels: ClassVar[Levels] = Levels(
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    )

    def corrupted(self, x: Tensor, level: tuple[float, float], generator: torch.Generator | None) -> Tensor:
        amount, decay = level
        brightest = x.amax((1, 2, 3), keepdim=True)
        return (x + amount * plasma(x, decay, generator)) * brightest / (brightest + amount)


@dataclass(frozen=True, kw_only=True, repr=False)
class Snow(Corruption):
    """x' = clip(w x + (1 - w) max(x, 1.5 grey + 0.5) + s + s turned by 180 degrees): flakes on a whitened image.

    s: N(loc, scale^2) per pixel, its centre magnified by z, values below t set to 0 and those above 1 to 1, then
    motion blur (radius, sigma) of U(-135, -45) degrees. Levels are (loc, scale, z, t, radius, sigma, w). The benchmark
    rounds s to 8 bits before and after the blur; we do not.
    """

    name: ClassVar[str] = "snow"
    title: ClassVar[str] = "snow"
    levels: ClassVar[Levels] = Levels(
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    )

    def corrupted(self, x: Tensor, level: tuple, generator: torch.Generator | None) -> Tensor:
        loc, scale, zoom, threshold, radius, sigma, weight = level
        # In float64: a rounding must not decide which side of the threshold a flake is on.
        flakes = centre_zoom(loc + scale * widened(normal(x[:, :1], generator)), zoom)
        flakes = flakes.clamp_max(1).where(flakes >= threshold, 0).to(x)
        layer = motion_blurred(flakes, radius, sigma, directions(x, -135, -45, generator))
        white = torch.lerp(torch.maximum(x, 1.5 * grey(x) + 0.5), x, weight)
        return white + layer + layer.flip(2, 3)

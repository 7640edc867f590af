"""Spatter: drops of water or mud on the lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from netprobe.outputs import widened
from netprobe.perturb.corruptions.base import Corruption, Levels, grey
from netprobe.perturb.corruptions.edges import distance, edges
from netprobe.perturb.corruptions.filters import averaging, blurred, correlated, separable
from netprobe.perturb.randomness import normal

WATER = (175, 238, 238)  # pale turquoise
MUD = (63, 42, 20)
RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=float)
FAR = 20  # pixels; beyond, water is as flat as here
CLEAR = 0.8  # mud thinner than this is not there


@dataclass(frozen=True, kw_only=True, repr=False)
class Spatter(Corruption):
    """Drops where a layer N(loc, scale^2), blurred by a Gaussian, exceeds a threshold; severities 4 and 5 are mud.

    Levels are (loc, scale, blur, threshold, strength, mud). Water: x' = clip(x + strength m / max(m) WATER), where m is
    the layer times its shading by the distance to the drops' edges (`shading`). Mud: x' = (1 - m) x + m MUD, where m is
    the mask of the drops blurred by `strength`, 0 below 0.8. On grey images both colours are their luma.

    Distances are Euclidean; the benchmark's are OpenCV's approximation of them.
    """

    name: ClassVar[str] = "spatter"
    title: ClassVar[str] = "spatter"
    levels: ClassVar[Levels] = Levels(
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    )

    def corrupted(self, x: Tensor, level: tuple, generator: torch.Generator | None) -> Tensor:
        loc, scale, blur, threshold, strength, mud = level
        # In float64: a rounding must not decide on which side of a threshold a pixel is.
        layer = blurred(loc + scale * widened(normal(x[:, 0], generator)), blur)
        layer = layer.where(layer >= threshold, 0)
        colour = x.new_tensor(MUD if mud else WATER).view(1, 3, 1, 1) / 255
        colour = grey(colour) if x.shape[1] == 1 else colour
        if mud:
            mask = blurred((layer > threshold).to(layer), strength)
            return torch.lerp(x, colour, mask.where(mask >= CLEAR, 0).to(x)[:, None])
        return x + strength * water(layer).to(x)[:, None] * colour


def water(layer: Tensor) -> Tensor:
    """How strongly drops show, (N, H, W) in [0, 1], 1 where most; 0 in an image without drops."""
    levels = (255 * layer).floor().clamp(0, 255)
    shown = levels * shading(levels)
    most = shown.amax((1, 2), keepdim=True)
    return shown / most.masked_fill(most == 0, 1)


def shading(levels: Tensor) -> Tensor:
    """A relief of the distance to the edges of `levels` (N, H, W), in grey levels.

    Distance to Canny's edges (50, 150), at most 20; smoothed over 3 x 3 pixels; its histogram equalised; correlated
    with a diagonal slope, clipped to [0, 255]; smoothed again. Whole grey levels after each step, as in the benchmark.
    """
    far = separable(distance(edges(levels, 50, 150), FAR).to(levels), averaging)
    relief = correlated(equalised((far + 1e-6).floor()), RELIEF).clamp(0, 255)
    return (separable(relief, averaging) + 1e-6).round()


def equalised(levels: Tensor) -> Tensor:
    """Whole grey levels (N, H, W) up to `FAR` spread so that their cumulative share grows evenly from 0 to 255.

    A level becomes round(255 (n(<= level) - n(least)) / (n - n(least))), n counting pixels; a single level stays.
    """
    index = levels.long().flatten(1)
    counts = torch.zeros(len(levels), FAR + 1, dtype=levels.dtype, device=levels.device)
    counts.scatter_add_(1, index, torch.ones_like(index, dtype=levels.dtype))
    least = counts.gather(1, index.amin(1, keepdim=True))
    others = index.shape[1] - least
    table = (255 * (counts.cumsum(1) - least) / others.clamp_min(1)).round().clamp(0, 255)
    return torch.where((others == 0)[..., None], levels, table.gather(1, index).view_as(levels))

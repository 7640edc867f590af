"""Elastic transform: a random affine map, then random displacements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from netprobe.perturb.corruptions.base import Corruption, Levels
from netprobe.perturb.corruptions.filters import blurred
from netprobe.perturb.randomness import uniform

IMAGENET_UNIT = 244 / 224
"""The generator of ImageNet-C measures images of 224 pixels as if they had 244."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ElasticTransform(Corruption):
    """Stretch and shear by a random affine map, then move every pixel by a smooth random field.

    Levels are (strength, sigma, affine) in units of the shorter side (ImageNet-C: of 244 / 224 of it). Three corners of
    the central square of two thirds of the side move by U(-affine, affine) in both coordinates. Then x'(p) = x(p + d),
    both coordinates of d being `strength` times U(-1, 1) smoothed by a Gaussian of `sigma`, cut at 3 sigma. Both maps
    interpolate linearly and mirror the image: at its edge pixels, then at its edges.
    """

    name: ClassVar[str] = "elastic_transform"
    title: ClassVar[str] = "elastic_transform"
    levels: ClassVar[Levels] = Levels(
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    )

    def corrupted(self, x: Tensor, level: tuple[float, float, float], generator: torch.Generator | None) -> Tensor:
        unit = min(x.shape[-2:]) * (IMAGENET_UNIT if self.constants_for(x) == "imagenet" else 1)
        strength, sigma, affine = (unit * part for part in level)
        moves = affine * (2 * uniform(x.new_empty(len(x), 3, 2), generator) - 1)
        x = sampled(x, affine_points(x, moves), mirror="pixels")
        if not strength:
            return x
        field = 2 * uniform(x.new_empty(len(x), 2, *x.shape[-2:]), generator) - 1
        field = strength * blurred(field, sigma, "reflect", truncate=3)
        return sampled(x, pixels(x) + field.movedim(1, -1), mirror="edges")


def pixels(x: Tensor) -> Tensor:
    """The coordinates (right, down) of every pixel, (H, W, 2)."""
    down, right = (torch.arange(size, device=x.device, dtype=x.dtype) for size in x.shape[-2:])
    return torch.stack(torch.meshgrid(right, down, indexing="xy"), -1)


def affine_points(x: Tensor, moves: Tensor) -> Tensor:
    """Where each pixel's value comes from, (N, H, W, 2), when three points move by `moves` (N, 3, 2).

    The points are the bottom right, top right and top left corner of the central square.
    """
    height, width = x.shape[-2:]
    half = max(1, min(height, width) // 3)
    corners = x.new_tensor([[half, half], [half, -half], [-half, -half]]) + x.new_tensor([width // 2, height // 2])
    ones = torch.ones_like(moves[..., :1])
    back = torch.linalg.solve(torch.cat([corners + moves, ones], -1), corners.expand_as(moves))
    return pixels(x) @ back[:, None, :2] + back[:, None, None, 2]


def sampled(x: Tensor, points: Tensor, mirror: str) -> Tensor:
    """`x` at `points` (N, H, W, 2), (right, down) in pixels; outside, mirrored at its edge "pixels" or its "edges"."""
    size = points.new_tensor([x.shape[-1], x.shape[-2]])
    at_pixels = mirror == "pixels"
    grid = 2 * points / (size - 1).clamp_min(1) - 1 if at_pixels else (2 * points + 1) / size - 1
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=at_pixels)

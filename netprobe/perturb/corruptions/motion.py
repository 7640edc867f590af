"""Motion blur along a line, another direction for every image."""

from __future__ import annotations

import torch
from torch import Tensor

from netprobe.outputs import widened
from netprobe.perturb.corruptions.filters import padded
from netprobe.perturb.randomness import uniform


def motion_blurred(x: Tensor, radius: int, sigma: float, degrees: Tensor) -> Tensor:
    """One-sided Gaussian-weighted mean along a line, as ImageMagick's motion blur does it.

        x'(p) = sum_{i=0}^{2 radius} w_i x(p + o_i),   w_i ~ exp(-i^2 / (2 sigma^2)), of sum 1,
        o_i = (i sin a, i cos a) rounded to whole pixels (halves down), edge pixels repeated outside

    x : (N, C, H, W). degrees : (N,) the angle a of each image; 0 looks right, -90 up.
    """
    taps = torch.arange(2 * radius + 1, device=x.device)
    weights = torch.exp(-(widened(taps) ** 2) / (2 * sigma**2))
    windows = padded(x, 2 * radius, "edge").unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
    down, right = (2 * radius + offset for offset in _offsets(taps, degrees))
    images, out = torch.arange(len(x), device=x.device), torch.zeros_like(x)
    for i, weight in enumerate((weights / weights.sum()).tolist()):
        out.add_(windows[images, :, down[:, i], right[:, i]], alpha=weight)
    return out


def _offsets(taps: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
    """How many pixels down and to the right each tap lies, both (N, taps)."""
    angle = widened(degrees).deg2rad()[:, None]
    return tuple((taps * along - 0.5).ceil().long() for along in (angle.sin(), angle.cos()))


def directions(x: Tensor, low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """One angle of U(low, high) degrees for each image of `x`: (N,)."""
    return low + (high - low) * uniform(x.new_empty(len(x), 1), generator).squeeze(1)

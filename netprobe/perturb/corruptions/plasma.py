"""Plasma: the diamond-square fractal of clouds."""

from __future__ import annotations

import torch
from torch import Tensor

from netprobe.perturb.randomness import uniform


def plasma(x: Tensor, decay: float, generator: torch.Generator | None) -> Tensor:
    """A fractal in [0, 1] for each image of `x`: (N, 1, H, W).

    On a torus whose side is the power of two from max(H, W) up, points of a grid of step s are known (first one, 0).
    The centre of every square, then the middle of every edge, is the mean of its four neighbours plus U(-1, 1) times
    decay^(-2 k); s is halved, k grows by one, until all points are known. The generator of the benchmark multiplies the
    amplitude in twice, hence the 2. The whole torus is then scaled to [0, 1]; the image is its corner.
    """
    side = max(2, 1 << (max(x.shape[-2:]) - 1).bit_length())
    noise = 2 * uniform(x.new_empty(len(x), side, side), generator) - 1
    cloud, step, amplitude = torch.zeros_like(noise), side, 1.0
    while step >= 2:
        _fill(cloud, amplitude * noise, step, step // 2)
        step, amplitude = step // 2, amplitude / decay**2
    low, high = cloud.amin((1, 2), keepdim=True), cloud.amax((1, 2), keepdim=True)
    scaled = (cloud - low) / (high - low)
    return scaled[:, None, : x.shape[-2], : x.shape[-1]]


def _fill(cloud: Tensor, noise: Tensor, step: int, half: int) -> None:
    """The centres of the squares, then the middles of their upper and left edges. A view each: they are written."""
    corners, centres = cloud[:, ::step, ::step], cloud[:, half::step, half::step]
    upper, left = cloud[:, ::step, half::step], cloud[:, half::step, ::step]
    below, right = corners.roll(-1, 1), corners.roll(-1, 2)
    centres.copy_((corners + below + right + below.roll(-1, 2)) / 4 + noise[:, half::step, half::step])
    upper.copy_((corners + right + centres + centres.roll(1, 1)) / 4 + noise[:, ::step, half::step])
    left.copy_((corners + below + centres + centres.roll(1, 2)) / 4 + noise[:, half::step, ::step])

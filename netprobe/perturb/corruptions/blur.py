"""Blur of lenses and of movement: Gaussian, defocus, motion and zoom."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from netprobe.perturb.corruptions.base import Corruption, Levels
from netprobe.perturb.corruptions.filters import blurred, centre_zoom, correlated
from netprobe.perturb.corruptions.motion import directions, motion_blurred


@dataclass(frozen=True, kw_only=True, repr=False)
class GaussianBlur(Corruption):
    """A Gaussian of c pixels in each channel, cut at 4 c, edge pixels repeated outside."""

    name: ClassVar[str] = "gaussian_blur"
    title: ClassVar[str] = "gaussian_blur"
    levels: ClassVar[Levels] = Levels((0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6))

    def corrupted(self, x: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
        return blurred(x, level)


@dataclass(frozen=True, kw_only=True, repr=False)
class DefocusBlur(Corruption):
    """The mean over a disk of radius r whose edge is smoothed by a Gaussian of a pixels: a lens out of focus.

    Levels are (r, a); the border mirrors the image at its edge pixels.
    """

    name: ClassVar[str] = "defocus_blur"
    title: ClassVar[str] = "defocus_blur"
    levels: ClassVar[Levels] = Levels(
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    )

    def corrupted(self, x: Tensor, level: tuple[float, float], generator: torch.Generator | None) -> Tensor:
        return correlated(x, disk(*level))


@dataclass(frozen=True, kw_only=True, repr=False)
class MotionBlur(Corruption):
    """A one-sided Gaussian-weighted mean along a line of U(-45, 45) degrees (`motion.motion_blurred`).

    Levels are (radius, sigma) in pixels. The benchmark blurs 8-bit images with ImageMagick; we blur without rounding.
    """

    name: ClassVar[str] = "motion_blur"
    title: ClassVar[str] = "motion_blur"
    levels: ClassVar[Levels] = Levels(
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    )

    def corrupted(self, x: Tensor, level: tuple[int, float], generator: torch.Generator | None) -> Tensor:
        return motion_blurred(x, *level, directions(x, -45, 45, generator))


@dataclass(frozen=True, kw_only=True, repr=False)
class ZoomBlur(Corruption):
    """The mean of x and of the centre of x magnified bilinearly by each of several factors: moving towards it.

    Levels are (largest factor, step): the factors are 1, 1 + step, ... up to and with the largest. Where that is no
    multiple of the step they end before it; the generator's own lists sometimes go one rounded step further.
    """

    name: ClassVar[str] = "zoom_blur"
    title: ClassVar[str] = "zoom_blur"
    levels: ClassVar[Levels] = Levels(
        ((1.05, 0.01), (1.10, 0.01), (1.15, 0.01), (1.20, 0.01), (1.25, 0.01)),
        ((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.25, 0.02), (1.30, 0.03)),
    )

    def corrupted(self, x: Tensor, level: tuple[float, float], generator: torch.Generator | None) -> Tensor:
        most, step = level
        factors = np.arange(1, most + step / 4, step)  # a quarter more, so that no rounding leaves out the largest
        total = x.clone()
        for factor in factors:
            total += centre_zoom(x, factor)
        return total / (1 + len(factors))


@functools.cache
def disk(radius: float, smooth: float) -> np.ndarray:
    """A disk of sum 1 smoothed by a Gaussian of `smooth` pixels cut at one pixel (two beyond radius 8).

    The disk lies in a square of 17 pixels, or of 2 radius + 1 if that is more, mirrored at its edges while it is
    smoothed, as in the benchmark; margins that are zero, or less than 1e-6 of float32's resolution, are cut off.
    """
    half = max(8, int(radius))
    across = np.arange(-half, half + 1)
    flat = (across**2 + across[:, None] ** 2 <= radius**2).astype(float)
    reach = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    window = np.exp(-(reach**2) / (2 * smooth**2))
    for axis in (0, 1):
        flat = ndimage.correlate1d(flat, window / window.sum(), axis=axis, mode="mirror")
    kernel = flat / np.count_nonzero(across**2 + across[:, None] ** 2 <= radius**2)
    kernel[kernel < 1e-12] = 0
    cut = int(np.flatnonzero(kernel.any(0))[0])
    return kernel[cut : len(kernel) - cut, cut : len(kernel) - cut]

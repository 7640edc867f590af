"""Rectangular windows of images, one place an image, all of one size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def planes(x: Tensor) -> Tensor:
    """Inputs as (N, channels, height, width): waveforms have height 1, the frames of a video are channels."""
    if x.ndim <= 3:
        return x.reshape(len(x), 1 if x.ndim == 2 else x.shape[1], 1, x.shape[-1])
    return x.reshape(len(x), -1, *x.shape[-2:])


def sides(share: float, height: int, width: int, least: int = 1, odd: bool = False) -> tuple[int, int]:
    """Height and width of a window of about this `share` of the area: a square, or as near to one as fits."""
    square = max(round(math.sqrt(share * height * width)), least)
    square += odd and square % 2 == 0
    if square <= min(height, width):
        return square, square
    short = min(height, width)
    long = min(max(round(share * height * width / short), least, short), max(height, width))
    return (short, long) if height <= width else (long, short)


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of `size` (a, b) at (N,) `top` and `left`, in planes of (height, width)."""

    top: Tensor
    left: Tensor
    size: tuple[int, int]
    plane: tuple[int, int]

    @classmethod
    def at(cls, u: Tensor, v: Tensor, size: tuple[int, int], plane: tuple[int, int]) -> Windows:
        """At places given by (N,) numbers in [0, 1): every place where the window fits is equally likely."""
        places = [(whole - part + 1) for whole, part in zip(plane, size, strict=True)]
        return cls(*((n * w.double()).long() for n, w in zip(places, (u, v), strict=True)), size, plane)

    def mask(self) -> Tensor:
        """(N, 1, height, width), True inside."""
        down, across = (torch.arange(n, device=self.top.device) for n in self.plane)
        rows = (down >= self.top[:, None]) & (down < self.top[:, None] + self.size[0])
        columns = (across >= self.left[:, None]) & (across < self.left[:, None] + self.size[1])
        return (rows[:, :, None] & columns[:, None, :])[:, None]

    def read(self, x: Tensor) -> Tensor:
        """What is inside: (N, C, height, width) -> (N, C, a, b)."""
        return x.flatten(2).gather(2, self._places(x)).unflatten(2, self.size)

    def written(self, x: Tensor, inside: Tensor) -> Tensor:
        """`x` with (N, C, a, b) `inside`."""
        return x.flatten(2).scatter(2, self._places(x), inside.flatten(2)).view_as(x)

    def _places(self, x: Tensor) -> Tensor:
        down, across = (torch.arange(n, device=x.device) for n in self.size)
        places = (self.top[:, None, None] + down[:, None]) * self.plane[1] + self.left[:, None, None] + across
        return places.flatten(1)[:, None].expand(-1, x.shape[1], -1)

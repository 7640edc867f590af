"""Edges of a layer of grey levels and the distance to them, for whole batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from netprobe.perturb.corruptions.filters import padded

STEEP = math.tan(math.radians(22.5))


def edges(levels: Tensor, weak: float, strong: float) -> Tensor:
    """Canny's edges of `levels` (N, H, W), grey levels from 0 to 255: bool, the shape of `levels`.

    Sobel gradients of edge pixels repeated outside, |gx| + |gy|; of those above `weak` the local maxima along the
    gradient, rounded to 45 degrees (of a tie the right or lower); of these, all that are connected to one above
    `strong`, also diagonally.

    Reference: Canny, IEEE PAMI 1986, in the variant of OpenCV.
    """
    right, down = _sobel(levels)
    size = right.abs() + down.abs()
    candidates = (size > weak) & _peaks(size, right, down)
    found = candidates & (size > strong)
    while True:
        grown = candidates & _dilated(found)
        if torch.equal(grown, found):
            return found
        found = grown


def distance(points: Tensor, most: int) -> Tensor:
    """Euclidean distance of every pixel to the nearest of `points` (N, H, W) bool, at most `most`; float.

    Squares along the rows first, then along the columns: 4 most + 2 operations on the batch.
    """
    squares = torch.where(points, 0.0, float(most**2))
    for dim in (-1, -2):
        squares = _nearest(squares, most, dim)
    return squares.clamp_max(most**2).sqrt()


def _nearest(squares: Tensor, most: int, dim: int) -> Tensor:
    """min over k in [-most, most] of squares shifted by k along `dim`, plus k^2."""
    size, best = squares.shape[dim], squares.clone()
    for k in range(1, min(most, size - 1) + 1):
        ahead, behind = squares.narrow(dim, k, size - k) + k**2, squares.narrow(dim, 0, size - k) + k**2
        for part, candidate in ((best.narrow(dim, 0, size - k), ahead), (best.narrow(dim, k, size - k), behind)):
            torch.minimum(part, candidate, out=part)
    return best


def _sobel(levels: Tensor) -> tuple[Tensor, Tensor]:
    wide = padded(levels, 1, "edge")
    rows = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    columns = wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]
    return rows[..., 2:] - rows[..., :-2], columns[:, 2:] - columns[:, :-2]


def _peaks(size: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Where `size` is not below its two neighbours along the gradient; 0 outside the image."""
    wide = F.pad(size, (1, 1, 1, 1))

    def at(dy: int, dx: int) -> Tensor:
        return wide[:, 1 + dy : 1 + dy + size.shape[1], 1 + dx : 1 + dx + size.shape[2]]

    flat, upright = down.abs() < STEEP * right.abs(), down.abs() > (STEEP + 2) * right.abs()
    falling = right * down >= 0
    diagonal = torch.where(falling, (size > at(-1, -1)) & (size > at(1, 1)), (size > at(-1, 1)) & (size > at(1, -1)))
    across = (size > at(0, -1)) & (size >= at(0, 1))
    along = (size > at(-1, 0)) & (size >= at(1, 0))
    return torch.where(flat, across, torch.where(upright, along, diagonal))


def _dilated(points: Tensor) -> Tensor:
    return F.max_pool2d(points.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0

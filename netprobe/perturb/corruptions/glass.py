"""Glass blur: neighbouring pixels take each other's places, in an order that matters."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from netprobe.fields import switch
from netprobe.perturb.corruptions.base import Corruption, Levels
from netprobe.perturb.corruptions.filters import blurred
from netprobe.perturb.randomness import uniform


@dataclass(frozen=True, kw_only=True, repr=False)
class GlassBlur(Corruption):
    """Blur, displace pixels locally, blur: frosted glass. Levels are (sigma, d, iterations).

    From the bottom right to the top left, every pixel p takes the value of its neighbour q = p + (dy, dx), both
    offsets drawn from {-d, ..., d - 1}; then q takes the value that p had (`swap`), or keeps its own. The published
    arrays are of the second kind: their generator writes a swap, but of two views of one array, where the first
    assignment overwrites what the second one reads. The blurs are those of `GaussianBlur`.

    The displacements are those of the sequential loop, step for step: pixels too far apart to meet are done together
    (`wavefronts`), which takes 2 d H + W steps an iteration instead of H W. The benchmark rounds the blurred image
    down to 8 bits before it is displaced; we do not.
    """

    name: ClassVar[str] = "glass_blur"
    title: ClassVar[str] = "glass_blur"
    levels: ClassVar[Levels] = Levels(
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    )

    swap: bool = field(
        default=False, metadata=switch(help="exchange two pixels, instead of copying one as the published arrays do")
    )

    def corrupted(self, x: Tensor, level: tuple[float, int, int], generator: torch.Generator | None) -> Tensor:
        sigma, reach, iterations = level
        source = torch.arange(x[0, 0].numel(), device=x.device).repeat(len(x), 1)
        for _ in range(iterations):
            drawn = uniform(x.new_empty(len(x), 2, *x.shape[-2:]), generator)
            displace(source, x.shape[-2:], reach, drawn, self.swap)
        shuffled = blurred(x, sigma).flatten(2).gather(2, source[:, None].expand(-1, x.shape[1], -1))
        return blurred(shuffled.view_as(x), sigma)


def displace(source: Tensor, shape: tuple[int, int], reach: int, drawn: Tensor, swap: bool) -> None:
    """Pass once over all pixels, in place. source : (N, H W), the pixel whose value each pixel has.

    drawn : (N, 2, H, W) of U(0, 1), which become the offsets of each pixel, down and to the right.
    """
    down, right = (drawn * (2 * reach)).long().clamp_max(2 * reach - 1).sub(reach).unbind(1)
    neighbour = (down * shape[1] + right).flatten(1)
    for pixels in wavefronts(*shape, reach):
        here = pixels.to(source.device)
        there = here + neighbour[:, here]
        mine, theirs = source[:, here], source.gather(1, there)
        source[:, here] = theirs
        if swap:
            source.scatter_(1, there, mine)


@functools.lru_cache(maxsize=32)
def wavefronts(height: int, width: int, reach: int) -> list[Tensor]:
    """The pixels of a pass, from bottom right to top left, in groups whose order inside the group does not matter.

    Visited are rows H - d, ..., d + 1 and columns W - d, ..., d + 1. A visit touches 2 d rows and columns, so that two
    visits depend on each other only if they are less than 2 d rows and columns apart. Of such two, the earlier one has
    the smaller 2 d (H - row) + (W - column), which is when a pixel is visited.
    """
    rows, columns = torch.arange(reach + 1, height - reach + 1), torch.arange(reach + 1, width - reach + 1)
    time = 2 * reach * (height - rows)[:, None] + (width - columns)
    pixels = (rows[:, None] * width + columns).flatten()
    order = time.flatten().argsort(stable=True)
    counts = time.flatten().unique(return_counts=True)[1]
    return list(pixels[order].split(counts.tolist()))

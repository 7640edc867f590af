"""Where decision-based attacks start: images that the model gets wrong, near those that are to be attacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from netprobe.perturb.geometry import per_image
from netprobe.perturb.randomness import select, uniform

DIRECTIONS = 1000
"""Random images that are tried before an image is given up."""

BLENDS = 50
"""Steps from the image to the random one."""

Classify = Callable[[Tensor], Tensor]
"""(M, ...) -> (M,) predicted classes."""


class Starts(NamedTuple):
    """points (N, ...) in [0, 1], found (N,) whether they are classified as something else, queries (N,) it took."""

    points: Tensor
    found: Tensor
    queries: Tensor


def blended_noise(classify: Classify, u: Tensor, y: Tensor, generator: torch.Generator | None) -> Starts:
    """The first of 50 even steps from an image to a uniform random image, the first that is classified differently.

    As in foolbox and in Brendel et al., ICLR 2018. Every image has random images of its own.
    """
    noise, found, queries = u.clone(), torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y)
    for _ in range(DIRECTIONS):
        rows = (~found).nonzero().squeeze(1)
        if not len(rows):
            break
        noise[rows] = uniform(u[rows], select(generator, rows))
        found[rows] = classify(noise[rows]) != y[rows]
        queries[rows] += 1
    return _first_blend(classify, u, y, Starts(noise, found, queries))


def _first_blend(classify: Classify, u: Tensor, y: Tensor, start: Starts) -> Starts:
    points, queries, searching = start.points.clone(), start.queries.clone(), start.found.clone()
    for blend in range(1, BLENDS):
        rows = searching.nonzero().squeeze(1)
        if not len(rows):
            break
        points[rows] = u[rows] + blend / BLENDS * (start.points[rows] - u[rows])
        queries[rows] += 1
        searching[rows] = classify(points[rows]) == y[rows]
    points[searching] = start.points[searching]
    return Starts(torch.where(per_image(start.found, u), points, u), start.found, queries)


def nearest(classify: Classify, u: Tensor, y: Tensor, pool: Tensor) -> Starts:
    """The image of `pool` (M, ...) nearest in L2 of those that the model classifies as something else than `y`.

    The pool's classes are asked for once: M queries, shared by the images.
    """
    classes, flat = classify(pool), pool.flatten(1)
    far = torch.cdist(u.flatten(1), flat).masked_fill(classes[None] == y[:, None], torch.inf)
    distance, which = far.min(1)
    found = distance.isfinite()
    queries = torch.full_like(y, -(-len(pool) // len(u)))
    return Starts(torch.where(per_image(found, u), pool[which], u), found, queries)

"""What attacks made of many images, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack made of some images, and what it cost.

    x          (N, ...) what it offers: an image that fools the model if it found one
    fooled     (N,) whether the model, asked in its own precision, was fooled by it
    forwards   (N,) forward passes spent on the image, of the model and of its copy together
    backwards  (N,) backward passes
    broken_by  (N,) of a composite attack: the number of the part that fooled the model, -1 for none; otherwise None
    """

    x: Tensor
    fooled: Tensor
    forwards: Tensor
    backwards: Tensor
    broken_by: Tensor | None = None


def part_by_part(
    attacked: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, slots: int, advance_bar: Callable[[int], object]
) -> Attacked:
    """What `attacked` makes of the rows of x, `slots` of them at a time: the first four fields of an `Attacked`."""
    parts = []
    for rows in torch.arange(len(x), device=x.device).split(slots):
        parts.append(attacked(rows))
        advance_bar(len(rows))
    return Attacked(*(torch.cat(field) for field in zip(*parts, strict=True)))

"""What attacks made of many images, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

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

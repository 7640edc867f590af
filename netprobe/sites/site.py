"""A site: one tensor that enters or leaves a module."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Site:
    """One place to listen.

    `shape` is the shape for one image (batch axis removed); `batch_axis` is None when no axis counts the images, and
    then the site cannot be probed; `channel_axis` counts in the batch-first tensor. `parameters` are those of the
    module and its children, `macs` its multiply-adds for one image, all its calls together.
    """

    name: str
    module: str
    call: int
    where: str
    part: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    batch_axis: int | None
    channel_axis: int
    order: int
    parameters: int
    macs: int | None
    leaf: bool
    lineage: frozenset[str] = field(repr=False)

    @property
    def units(self) -> int:
        """Numbers per image."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """Length of the channel axis; 1 for one number per image."""
        return self.shape[self.channel_axis - 1] if self.shape else 1

    def batch_first(self, tensor: Tensor) -> Tensor:
        """`tensor` as the module handed it over, seen with the images on axis 0."""
        return tensor if self.batch_axis == 0 else tensor.movedim(self.batch_axis, 0)

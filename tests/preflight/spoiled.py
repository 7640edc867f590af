"""Data and models that can commit sins which `Data` and a sane network would refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Sample:
    """The least that `check` accepts as data; unlike `Data` it does not refuse wrong contents."""

    inputs: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None

    def take(self, n: int, seed: int) -> Sample:
        return Sample(self.inputs[:n], None if self.labels is None else self.labels[:n], self.classes)


class Spoiled(nn.Module):
    """`net` between two functions."""

    def __init__(self, net: nn.Module, before: Callable = lambda x: x, after: Callable = lambda z: z) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> object:
        return self.after(self.net(self.before(x)))

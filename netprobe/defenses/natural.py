"""No defense: what every other one is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from netprobe.defenses.base import Defense
from netprobe.outputs import logits_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Natural(Defense):
    """L = CE(f(x), y) on the images as they are."""

    name: ClassVar[str] = "natural"
    title: ClassVar[str] = "natural training"

    @property
    def draws(self) -> bool:
        return False

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        return entropy(model, x, y)


def entropy(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The mean cross-entropy of the logits at x, and the logits."""
    logits = logits_of(model(x), len(x))
    return {"loss": cross_entropy(logits, y), "logits": logits}

"""Sums over the steps of an epoch, kept exact and cheap: the device is asked only now and then."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from netprobe.errors import NetprobeError


class Diverged(NetprobeError):
    """Training met a loss that is not a finite number."""


class Tally:
    """Sums of losses and counts over images, step by step in order, so that they do not depend on when one looks."""

    def __init__(self, sums: dict[str, float] | None = None) -> None:
        self.sums = dict(sums or {})
        self._waiting: list[Tensor] = []
        self._sizes: list[int] = []
        self._names: list[str] = []

    def add(self, terms: dict[str, Tensor], y: Tensor) -> None:
        """The terms of a defense's loss for one batch with labels y."""
        means = {name: value.detach() for name, value in terms.items() if name != "logits"}
        means["accuracy"] = (terms["logits"].detach().argmax(1) == y).double().mean()
        self._names = list(means)
        self._waiting.append(torch.stack([value.double() for value in means.values()]))
        self._sizes.append(len(y))

    def look(self, step: int, remedy: str) -> None:
        """Take in what waits, up to `step`; an error if a loss among it was not finite."""
        if not self._waiting:
            return
        rows = torch.stack(self._waiting).tolist()
        for offset, (row, size) in enumerate(zip(rows, self._sizes, strict=True)):
            if not math.isfinite(row[self._names.index("loss")]):
                raise Diverged(f"the loss was {row[0]} at step {step - len(rows) + offset + 1:,}. {remedy}")
            for name, value in zip(self._names, row, strict=True):
                self.sums[name] = self.sums.get(name, 0.0) + value * size
            self.sums["images"] = self.sums.get("images", 0.0) + size
        self._waiting, self._sizes = [], []

    def means(self) -> dict[str, float]:
        """The mean of every term over the images so far."""
        images = self.sums.get("images", 0.0)
        return {name: total / images for name, total in self.sums.items() if name != "images"} if images else {}

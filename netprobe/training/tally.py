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
        self._waiting: dict[str, list[Tensor]] = {}
        self._right: list[Tensor] = []

    def add(self, terms: dict[str, Tensor], y: Tensor) -> None:
        """The terms of a defense's loss for one batch with labels y."""
        for name, value in terms.items():
            if name != "logits":
                self._waiting.setdefault(name, []).append(value.detach())
        self._right.append(terms["logits"].detach().argmax(1) == y)

    def look(self, step: int, remedy: str) -> None:
        """Take in what waits, up to `step`; an error if a loss among it was not finite."""
        if not self._right:
            return
        means = {name: torch.stack(values).tolist() for name, values in self._waiting.items()}
        right = torch.stack([row.sum() for row in self._right]).tolist()
        sizes = [len(row) for row in self._right]
        for offset, loss in enumerate(means["loss"]):
            if not math.isfinite(loss):
                raise Diverged(f"the loss was {loss} at step {step - len(sizes) + offset + 1:,}. {remedy}")
        for name, values in means.items():
            for value, size in zip(values, sizes, strict=True):
                self._count(name, value * size)
        self._count("accuracy", float(sum(right)))
        self._count("images", float(sum(sizes)))
        self._waiting, self._right = {}, []

    def _count(self, name: str, amount: float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + amount

    def means(self) -> dict[str, float]:
        """The mean of every term over the images so far."""
        images = self.sums.get("images", 0.0)
        return {name: total / images for name, total in self.sums.items() if name != "images"} if images else {}

"""The images that a gradient attack is working on at the moment, one a row."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from netprobe.perturb.objective import Goal


@dataclass(eq=False)
class Slots:
    """Where every image stands. Rows come and go: `select` some, or put `joined` ones behind.

    image    (S,) position of the image among those that are attacked
    attempt  (S,) which of its attempts (restarts, targets) this is, from 0
    step     (S,) steps taken in this attempt
    origin   (S, ...) the image itself
    x        (S, ...) where the attempt has got to
    goal     where to drive each of them
    memory   whatever else the attack keeps of each, by name: (S, ...) tensors
    """

    image: Tensor
    attempt: Tensor
    step: Tensor
    origin: Tensor
    x: Tensor
    goal: Goal
    memory: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(cls, image: Tensor, attempt: Tensor, origin: Tensor, goal: Goal) -> Slots:
        """Images at the beginning of an attempt, not moved yet."""
        return cls(image, attempt, torch.zeros_like(image), origin, origin, goal)

    def __len__(self) -> int:
        return len(self.image)

    def select(self, rows: Tensor) -> Slots:
        """Some of the rows, by a mask or by numbers."""
        memory = {name: kept[rows] for name, kept in self.memory.items()}
        parts = {name: getattr(self, name)[rows] for name in _TENSORS}
        return dataclasses.replace(self, **parts, goal=self.goal.select(rows), memory=memory)

    def joined(self, other: Slots) -> Slots:
        """These rows, then those of `other`."""
        memory = {name: torch.cat([kept, other.memory[name]]) for name, kept in self.memory.items()}
        parts = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in _TENSORS}
        return dataclasses.replace(self, **parts, goal=self.goal.joined(other.goal), memory=memory)


_TENSORS = ("image", "attempt", "step", "origin", "x")

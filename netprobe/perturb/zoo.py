"""ZOO: Carlini-Wagner with gradients estimated from scores (Chen et al., AISec 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from netprobe.fields import choice, real, switch, whole
from netprobe.perturb.geometry import GEOMETRIES, per_image
from netprobe.perturb.libraries import UnitBox
from netprobe.perturb.minimum_norm import MinimumNormAttack
from netprobe.perturb.objective import lead, predict
from netprobe.perturb.randomness import select, uniform

INSIDE = 0.999999
"""Inputs are drawn this much towards the middle of the box, so that their arctanh is finite."""

QUERIES = 512
"""Scores asked for in one forward pass, about."""

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
"""Adam's decay rates, and what keeps its quotient finite."""

CHECKS = 10
"""Times in a round at which an image may be found to make no progress."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ZOO(MinimumNormAttack):
    """Minimise ||x' - x||_2^2 + c max(z_y - max_{j != y} z_j + confidence, 0) over w, x' = (1 + tanh w) / 2.

    In every step `coordinates` random coordinates i of an image are moved by Adam, each with moments and a clock of its
    own, along [f(w + h e_i) - f(w - h e_i)] / 2h; the distance needs no queries and its gradient is exact. f is the
    margin above: that of the logarithms of probabilities, as in the paper, is the same number. c is searched for by
    bisection from `initial_const`, tenfold while nothing is found. What is kept is the nearest x' that fooled. With
    `abort_early` an image ends a round when a tenth of the steps has not lowered its loss. Every image has coordinates
    of its own stream and does not notice its batch.

    Chen et al., AISec 2017, ZOO-ADAM with their settings for CIFAR-10, without their reductions of the attack space.
    Ours differs: h is 0.001, not 0.0001, since in float32 the logits' rounding would drown the difference.
    Cost: binary_search_steps * steps * (2 coordinates + 1) scores at most, in forward passes of about 512.
    """

    name: ClassVar[str] = "zoo"
    title: ClassVar[str] = "ZOO"

    norm: str = field(default="l2", kw_only=False, metadata=choice(("l2",), help="norm to make small"))
    steps: int = field(default=1000, metadata=whole(1, help="steps of Adam for every c"))
    binary_search_steps: int = field(default=9, metadata=whole(1, help="values of c"))
    coordinates: int = field(default=128, metadata=whole(1, help="coordinates that a step moves"))
    stepsize: float = field(default=0.01, metadata=real(0, help="learning rate of Adam"))
    h: float = field(default=1e-3, metadata=real(1e-8, help="half the distance of two scores, in w"))
    confidence: float = field(default=0.0, metadata=real(0, help="by how much the wrong logit must lead"))
    initial_const: float = field(default=0.01, metadata=real(0, help="first c"))
    abort_early: bool = field(default=True, metadata=switch(help="end a round when the loss no longer falls"))

    def closest(self, surrogate: UnitBox, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        u = surrogate.inner(x)
        best, size = u, torch.full_like(u.flatten(1)[:, 0], torch.inf)
        const, low, high = torch.full_like(size, self.initial_const), torch.zeros_like(size), size.clone()
        for _ in range(self.binary_search_steps):
            found, length = _Descent(self, surrogate, u, y, const, generator).run()
            best = torch.where(per_image(length < size, u), found, best)
            size = torch.minimum(size, length)
            low, high = torch.where(length.isfinite(), low, const), torch.where(length.isfinite(), const, high)
            const = torch.where(high.isfinite(), (low + high) / 2, 10 * const)
        return best


class _Descent:
    """One round: all images with their c, in step; those that make no progress have left."""

    def __init__(
        self, attack: ZOO, surrogate: UnitBox, u: Tensor, y: Tensor, const: Tensor, generator: torch.Generator | None
    ) -> None:
        self.attack, self.surrogate, self.generator = attack, surrogate, generator
        self.u, self.y, self.const = u, y, const
        self.w = torch.atanh((2 * u.flatten(1) - 1) * INSIDE)
        self.first, self.second, self.clock = (torch.zeros_like(self.w) for _ in range(3))
        self.found, self.length = u.clone(), torch.full_like(const, torch.inf)
        self.going, self.checked = torch.arange(len(u), device=u.device), torch.full_like(const, torch.inf)

    def run(self) -> tuple[Tensor, Tensor]:
        """The nearest images that fooled, and how far they are: infinitely where none did."""
        attack = self.attack
        for step in range(attack.steps):
            margin = self._look()
            if attack.abort_early and step % -(-attack.steps // CHECKS) == 0:
                margin = self._without_stuck(margin)
            if not len(self.going):
                return self.found, self.length
            self._move(margin)
        self._look()
        return self.found, self.length

    def _look(self) -> Tensor:
        """The margins where the images are; keep the nearest that fool."""
        rows, point = self.going, outward(self.w[self.going])
        margin = self._margin(point, rows)
        length = GEOMETRIES["l2"].size(point - self.u[rows].flatten(1))
        nearer = (margin < -self.attack.confidence) & (length < self.length[rows])
        self.found[rows[nearer]] = self._shaped(point[nearer])
        self.length[rows[nearer]] = length[nearer]
        return margin

    def _without_stuck(self, margin: Tensor) -> Tensor:
        """Let those leave whose loss has not fallen since the last check; the margins of the others."""
        rows = self.going
        distance = (outward(self.w[rows]) - self.u[rows].flatten(1)).square().sum(1)
        loss = distance + self.const[rows] * (margin + self.attack.confidence).clamp_min(0)
        falls = loss <= 0.9999 * self.checked[rows]
        self.checked[rows] = loss
        self.going = rows[falls]
        return margin[falls]

    def _move(self, margin: Tensor) -> None:
        """One step of Adam for some coordinates of every image."""
        rows, attack = self.going, self.attack
        w = self.w[rows]
        chosen = uniform(w, select(self.generator, rows)).topk(min(attack.coordinates, w.shape[1]), dim=1).indices
        here = w.gather(1, chosen)
        away = (outward(here) - self.u[rows].flatten(1).gather(1, chosen)) * (1 - here.tanh().square())
        slope = coordinate_slopes(self._margins_of(rows), w, chosen, attack.h)
        active = (margin > -attack.confidence)[:, None]  # the hinge is flat beyond
        gradient = away + torch.where(active, self.const[rows, None] * slope, 0)
        self.w[rows] = w.scatter(1, chosen, here - attack.stepsize * self._adam(rows, chosen, gradient))

    def _adam(self, rows: Tensor, chosen: Tensor, gradient: Tensor) -> Tensor:
        """Adam's direction at the `chosen` coordinates, whose moments and clocks go on."""
        at = (rows[:, None], chosen)
        self.clock[at] += 1
        self.first[at] = FIRST * self.first[at] + (1 - FIRST) * gradient
        self.second[at] = SECOND * self.second[at] + (1 - SECOND) * gradient.square()
        mean, square = self.first[at] / (1 - FIRST ** self.clock[at]), self.second[at] / (1 - SECOND ** self.clock[at])
        return mean / (square.sqrt() + TINY)

    def _margins_of(self, rows: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda w, which: self._margin(outward(w), rows[which])

    def _margin(self, point: Tensor, rows: Tensor) -> Tensor:
        logits = torch.cat([predict(self.surrogate, part) for part in self._shaped(point).split(QUERIES)])
        return lead(logits, self.y[rows])

    def _shaped(self, point: Tensor) -> Tensor:
        return point.reshape(-1, *self.u.shape[1:])


def outward(w: Tensor) -> Tensor:
    """The place in [0, 1] that w stands for."""
    return (1 + w.tanh()) / 2


def coordinate_slopes(score: Callable[[Tensor, Tensor], Tensor], w: Tensor, chosen: Tensor, h: float) -> Tensor:
    """Symmetric differences [f(w + h e_i) - f(w - h e_i)] / 2h at the `chosen` (N, B) coordinates i of `w` (N, d).

    `score` maps points (M, d) and the rows (M,) of w that they belong to to f (M,). As many images share a call as fit
    into 512 points.
    """
    slopes, count = torch.empty_like(chosen, dtype=w.dtype), chosen.shape[1]
    for rows in torch.arange(len(w), device=w.device).split(max(QUERIES // (2 * count), 1)):
        around = w[rows, None, None].repeat(1, 2, count, 1)
        steps = torch.tensor([h, -h], dtype=w.dtype, device=w.device).view(1, 2, 1, 1).expand(len(rows), 2, count, 1)
        around.scatter_add_(3, chosen[rows, None, :, None].expand(-1, 2, -1, -1), steps)
        which = rows.repeat_interleave(2 * count)
        ahead, behind = score(around.flatten(0, 2), which).view(len(rows), 2, count).unbind(1)
        slopes[rows] = (ahead - behind) / (2 * h)
    return slopes

"""Adversarial training with several gradient steps, and with a single one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.defenses.crafting import Crafting
from netprobe.defenses.natural import entropy
from netprobe.defenses.overfitting import catastrophe
from netprobe.fields import choice, real, switch, whole
from netprobe.perturb.geometry import GEOMETRIES
from netprobe.perturb.gradient import PGD
from netprobe.perturb.objective import LOSSES


@dataclass(frozen=True, kw_only=True, repr=False)
class OnAttack(Crafting):
    """L = CE(f(x'), y) on x' = attack(f, x, y) alone, with no clean term."""

    norm: str = field(default="linf", metadata=choice(GEOMETRIES, help="norm of the ball"))
    attack_loss: str = field(default="ce", metadata=choice(LOSSES, help="what the training attack maximises"))

    def attack(self) -> PGD:
        """What makes training images."""
        raise NotImplementedError

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        return entropy(model, self.crafted(self.attack(), model, x, y, generator, copy), y)


@dataclass(frozen=True, kw_only=True, repr=False)
class AdversarialTraining(OnAttack):
    """PGD adversarial training: the inner maximisation takes `steps` steps. Madry et al., ICLR 2018.

    Defaults: eps 8/255, 10 steps of 2/255 from a random start (Bakiskan 2022, section 3.1; chapter 4.2 has steps of
    1/255, and its code starts at x).
    """

    name: ClassVar[str] = "pgd-at"
    title: ClassVar[str] = "PGD adversarial training"

    steps: int = field(default=10, metadata=whole(1, help="gradient steps of the training attack"))
    step_size: float | None = field(
        default=None, metadata=real(0, optional=True, help="length of a step; none: 2.5 eps / steps")
    )
    random_start: bool = field(default=True, metadata=switch(help="start at a random point of the ball"))

    def attack(self) -> PGD:
        return PGD(
            self.eps,
            norm=self.norm,
            loss=self.attack_loss,
            steps=self.steps,
            step_size=self.step_size,
            random_start=self.random_start,
            low=self.low,
            high=self.high,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class FastAdversarialTraining(OnAttack):
    """One step of length `step_size` from a uniformly random point of the ball (R+FGSM, "fast" adversarial training).

        e_0 ~ U(-eps, eps), clipped to the box;  e = clip(e_0 + step_size sign(gradient L(x + e_0)), -eps, eps)

    Wong, Rice and Kolter, ICLR 2020; step 10/255 for eps 8/255 (Bakiskan 2022, section 4.2.4). It is not the R+FGSM of
    Tramer et al., whose random step is a sign. A single step can come to fool only itself (catastrophic overfitting);
    with `guard` training stops when validation images under PGD-10 show that, and the best epoch is the result.
    """

    name: ClassVar[str] = "fast"
    title: ClassVar[str] = "R+FGSM adversarial training"

    step_size: float | None = field(
        default=None, metadata=real(0, optional=True, help="length of the step; none: 1.25 eps")
    )
    guard: bool = field(default=True, metadata=switch(help="stop when the network overfits to the single step"))

    def attack(self) -> PGD:
        step = 1.25 * self.eps if self.step_size is None else self.step_size
        return PGD(
            self.eps,
            norm=self.norm,
            loss=self.attack_loss,
            steps=1,
            step_size=step,
            low=self.low,
            high=self.high,
        )

    def stops(self, history: list[dict]) -> str | None:
        return catastrophe(history) if self.guard else None

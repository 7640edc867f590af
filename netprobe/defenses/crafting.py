"""Making the inputs that a defense trains on: attacks on the network as it is now, and noise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.defenses.base import Defense
from netprobe.errors import NetprobeError
from netprobe.fields import choice, real
from netprobe.perturb.backward import surrogates
from netprobe.perturb.frozen import frozen
from netprobe.perturb.geometry import Box
from netprobe.perturb.gradient import PGD, GradientAttack
from netprobe.perturb.objective import Goal
from netprobe.perturb.slots import Slots

MODES = ("eval", "train")
VALIDATION_STEPS = 10


@dataclass(frozen=True, kw_only=True, repr=False)
class Perturbing(Defense):
    """A defense that changes training inputs, within the box [low, high]."""

    low: float = field(default=0.0, metadata=real(help="smallest value of an input"))
    high: float = field(default=1.0, metadata=real(help="largest value of an input"))

    @property
    def box(self) -> Box:
        return Box(self.low, self.high)

    def check_range(self, low: float, high: float) -> None:
        if not self.low <= low <= high <= self.high:
            raise NetprobeError(
                f"training inputs go from {low:.4g} to {high:.4g}, and the defense keeps them in "
                f"[{self.low:g}, {self.high:g}]: set its low and high (waveforms: low=-1)"
            )


@dataclass(frozen=True, kw_only=True, repr=False)
class Crafting(Perturbing):
    """A defense that attacks the network while it trains.

    `mode` is that of the network under attack: "eval" normalises by running statistics, as the network will when it is
    attacked for real, and leaves them alone; with "train" every step of the attack normalises by its batch and moves
    the running statistics by adversarial inputs, as several public training codes do.
    """

    norm: ClassVar[str] = "linf"  # a setting where the defense has a choice

    eps: float = field(default=8 / 255, metadata=real(0, help="radius of the ball, in input units"))
    mode: str = field(default="eval", metadata=choice(MODES, help="of the network while training attacks are made"))

    @property
    def needs_copy(self) -> bool:
        return self.mode == "eval"

    def validation_attack(self) -> PGD:
        """PGD-10 from a random start with the training budget, its step tied to eps."""
        return PGD(self.eps, norm=self.norm, steps=VALIDATION_STEPS, low=self.low, high=self.high)

    @contextlib.contextmanager
    def victim(self, model: nn.Module, copy: nn.Module, x: Tensor) -> Iterator[nn.Module]:
        """The module to attack, while it is attacked; without autocast, which would round the attack itself."""
        with torch.autocast(x.device.type, enabled=False):
            if self.mode == "eval":
                yield copy
            else:
                with untouched(model), surrogates(model):
                    yield KeptInTraining(model)

    def crafted(
        self,
        attack: GradientAttack,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        generator: torch.Generator,
        copy: nn.Module,
    ) -> Tensor:
        """What one search of `attack` on the network as it is now comes to.

        As when the attack is called, but without its checks, each of which would make the host wait for the device:
        labels and the range of inputs were checked before training. Where a gradient is not finite, neither is the
        result, so that the loss will tell.
        """
        if attack.eps == 0:
            return x
        with self.victim(model, copy, x) as victim, frozen(victim):
            image = torch.arange(len(x), device=x.device)
            slots = Slots.fresh(image, torch.zeros_like(image), x, KnownGoal(y, loss=attack.loss))
            attack.begin(slots, generator)
            finite = torch.ones((), dtype=torch.bool, device=x.device)
            for _ in range(attack.steps):
                here = attack.look(victim, slots, generator, check=False)
                finite = finite & here.gradient.isfinite().all()
                attack.advance(slots, here)
            return slots.x.where(finite, torch.nan)


class KnownGoal(Goal):
    """Away from labels that are known to be classes of the network: they are not looked at."""

    def __post_init__(self) -> None:
        pass

    def check(self, logits: Tensor) -> None:
        pass


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """No parameter of `model` gets a gradient inside; which of them do is as before afterwards, one by one."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)


class KeptInTraining(nn.Module):
    """`model` out of the reach of `eval()`: attacks put what they attack into eval mode."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.reach = [model]  # in a list: a registered child would follow its parent's mode

    def forward(self, x: Tensor) -> object:
        return self.reach[0](x)

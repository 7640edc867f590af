"""Auto-PGD: gradient ascent that chooses its own step size (Croce and Hein, ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.fields import whole
from netprobe.perturb.geometry import per_image
from netprobe.perturb.gradient import GradientAttack
from netprobe.perturb.objective import Escape, Slope, predict
from netprobe.perturb.slots import Slots

MOMENTUM = 0.25
"""Share of the previous displacement in the next one (the paper's 1 - alpha)."""

OSCILLATING = 0.75
"""A search whose value grows in at most this share of the steps between two checkpoints halves its step (rho)."""

FIRST, SHORTER, LEAST = 0.22, 0.03, 0.06
"""Steps to the first checkpoint, by how much every further stretch is shorter, and its least length, as shares."""


@dataclass(frozen=True, kw_only=True, repr=False)
class AutoPGD(GradientAttack):
    """Steepest ascent with momentum, whose step starts at 2 eps and is halved where it no longer helps.

        z = project(x_k + a steepest(gradient L(x_k)));   x_{k+1} = project(x_k + 3/4 (z - x_k) + 1/4 (x_k - x_{k-1}))

    At checkpoints (after 22 % of the steps, then at ever shorter distances) an image's step is halved, and its search
    goes back to its best point, if fewer than 3/4 of the steps since the last one raised its value, or if neither its
    step nor its best value has changed since. The start is a uniform point of the ball, and what counts in
    the end the point of the largest value.
    """

    steps: int = field(default=100, metadata=whole(1, help="gradient steps"))
    restarts: int = field(default=1, metadata=whole(1, help="searches; images already fooled are not tried again"))
    random_start: ClassVar[bool] = True

    def end(self, model: nn.Module, slots: Slots) -> Tensor:
        """The point of the largest value, the last one included."""
        better = slots.goal.value(predict(model, slots.x, self.eot)) > slots.memory["best_value"]
        return torch.where(per_image(better, slots.x), slots.x, slots.memory["best"])

    def begin(self, slots: Slots, generator: torch.Generator | None) -> None:
        super().begin(slots, generator)
        rows, device = len(slots), slots.x.device
        number, flag = torch.zeros(rows, dtype=torch.int64, device=device), torch.ones(rows, dtype=bool, device=device)
        lowest = torch.full((rows,), -torch.inf, dtype=torch.float64, device=device)
        slots.memory |= {
            "previous": slots.x,  # x_{k-1}
            "best": slots.x,
            "best_gradient": torch.zeros_like(slots.x),
            "best_value": lowest,
            "best_at_checkpoint": lowest.clone(),
            "value": lowest.clone(),  # at x_{k-1}
            "stride": torch.full_like(lowest, 2 * self.eps).to(slots.x.dtype),
            "halved": flag,  # at the last checkpoint
            "raised": number,  # steps since the last checkpoint that raised the value
            "since": number.clone(),  # steps since the last checkpoint
            "period": number + max(int(FIRST * self.steps), 1),  # steps between it and the next
        }

    def advance(self, slots: Slots, here: Slope) -> None:
        gradient = self._note(slots, here)
        gradient = self._checkpoint(slots, gradient)
        kept, share = slots.memory, per_image((slots.step > 0) * MOMENTUM, slots.x)
        step = per_image(kept["stride"], slots.x) * self.geometry.steepest(gradient, slots.x, self.box)
        ahead = self.within(slots.origin, slots.x - slots.origin + step)
        moved = (1 - share) * (ahead - slots.x) + share * (slots.x - kept["previous"])
        kept["previous"] = slots.x
        slots.x = self.within(slots.origin, slots.x - slots.origin + moved)
        slots.step += 1

    def offer(self, slots: Slots) -> Tensor:
        return slots.memory["best"]

    def _note(self, slots: Slots, here: Slope) -> Tensor:
        """Remember the best point; the gradient where each search is."""
        kept = slots.memory
        value = here.value.double()
        better = value > kept["best_value"]
        wide = per_image(better, slots.x)
        kept["best"] = torch.where(wide, slots.x, kept["best"])
        kept["best_gradient"] = torch.where(wide, here.gradient, kept["best_gradient"])
        kept["best_value"] = torch.where(better, value, kept["best_value"])
        walking = slots.step > 0
        kept["raised"] = kept["raised"] + (walking & (value > kept["value"]))
        kept["since"] = kept["since"] + walking
        kept["value"] = value
        kept["best_at_checkpoint"] = torch.where(walking, kept["best_at_checkpoint"], value)
        return here.gradient

    def _checkpoint(self, slots: Slots, gradient: Tensor) -> Tensor:
        """Halve the steps that do not help, and go back to the best point with its gradient."""
        kept = slots.memory
        due = kept["since"] == kept["period"]
        if not due.any():
            return gradient
        oscillates = kept["raised"] <= OSCILLATING * kept["period"]
        stuck = ~kept["halved"] & (kept["best_at_checkpoint"] >= kept["best_value"])
        halve = due & (oscillates | stuck)
        kept["halved"] = torch.where(due, halve, kept["halved"])
        kept["best_at_checkpoint"] = torch.where(due, kept["best_value"], kept["best_at_checkpoint"])
        kept["stride"] = torch.where(halve, kept["stride"] / 2, kept["stride"])
        shorter = (kept["period"] - max(int(SHORTER * self.steps), 1)).clamp_min(max(int(LEAST * self.steps), 1))
        kept["period"] = torch.where(due, shorter, kept["period"])
        kept["since"], kept["raised"] = (kept[name].masked_fill(due, 0) for name in ("since", "raised"))
        back = per_image(halve, slots.x)
        slots.x = torch.where(back, kept["best"], slots.x)
        return torch.where(back, kept["best_gradient"], gradient)


@dataclass(frozen=True, kw_only=True, repr=False)
class APGD(AutoPGD):
    """Auto-PGD on the cross-entropy, or with `loss="dlr"` on the difference of logits ratio. Croce and Hein, 2020."""

    name: ClassVar[str] = "apgd"
    title: ClassVar[str] = "APGD"

    @property
    def family(self) -> str:
        return super().family if self.loss == "ce" else f"{super().family} {self.loss.upper()}"


@dataclass(frozen=True, kw_only=True, repr=False)
class TargetedAPGD(AutoPGD):
    """Auto-PGD on the targeted difference of logits ratio, a search for each of the `targets` likeliest wrong classes.

    Any wrong class counts as success, whichever was aimed at. Needs four classes or more. Croce and Hein, 2020.
    """

    name: ClassVar[str] = "apgd-t"
    title: ClassVar[str] = "APGD-T"
    restarts: ClassVar[int] = 1
    loss: ClassVar[str] = "dlr"
    target: ClassVar[None] = None

    targets: int = field(default=9, metadata=whole(1, help="wrong classes to aim at, the likeliest first"))

    def goal(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Escape:
        return Escape.by_likeliest(predict(model, x, self.eot), y, self.targets)

    def attempts(self, goal: Escape) -> int:
        return goal.ways.shape[1]

    def aim(self, goal: Escape, attempt: Tensor) -> Escape:
        return goal.by(attempt)

"""Gradient attacks: FGSM, BIM and PGD are one machine with different settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.fields import choice, class_target, real, switch, whole, word
from netprobe.outputs import widened
from netprobe.perturb.attack_copy import attack_copy
from netprobe.perturb.backward import declared_passes, surrogates
from netprobe.perturb.ball import InBall
from netprobe.perturb.base import Perturbation
from netprobe.perturb.conveyor import Attacked, Conveyor
from netprobe.perturb.frozen import frozen
from netprobe.perturb.geometry import GEOMETRIES, per_image, unit
from netprobe.perturb.objective import LOSSES, Goal, Slope, predict, slope
from netprobe.perturb.randomness import select, uniform
from netprobe.perturb.slots import Slots
from netprobe.perturb.standing import each_way


@dataclass(frozen=True, kw_only=True, repr=False)
class OneStep(Perturbation):
    """One step from x itself, once: what attacks of several steps turn into settings, the first ones they have."""

    steps: ClassVar[int] = 1
    step_size: ClassVar[float | None] = None
    random_start: ClassVar[bool] = False
    restarts: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True, repr=False)
class GradientAttack(InBall, OneStep):
    """Maximise a loss over the ball of radius `eps` and the box, by steepest ascent in the ball's own norm.

        x_0 = x, or a random point of the ball around it
        x_{k+1} = clip(x + project(x_k - x + a * steepest(gradient L(x_k))))

    a: `stride`. L: the loss of y, or minus the loss of the target. The model is in eval mode with frozen parameters
    while the attack runs, and is left as found. The result for an image does not depend on its batch, up to the
    rounding of the model itself.

    `y` is always the true label. Targets: "least-likely", the class other than y with the smallest logit at x;
    "random", any class but y, all equally likely; a number, that class, and images of that class stay as they are.

    Errors: eps in the wrong units, inputs outside the box, outputs that are not logits, gradients that are
    missing or not finite; a `backward` that the model does not declare. Cost: restarts * steps * eot forward and
    backward passes, and eot forward passes a restart if there are several; `fool` of a model that declares backward
    passes that many times more on images that stand.

    Called, it returns the last step, as analyses of perturbations want it; of several declared backward passes it
    follows the first. `fool` asks whether the model can be fooled at any step, on many images at once and faster, and
    with several backward passes tries each on what the ones before left standing (`broken_by` is which it was): an
    image stands only if it stands them all.

    To extend: `begin` and `advance` are one attempt, `aim` says what each of the `attempts` drives at.
    """

    loss: str = field(default="ce", metadata=choice(LOSSES, help="cross-entropy or Carlini-Wagner margin"))
    target: str | int | None = field(
        default=None,
        metadata=class_target(("least-likely", "random"), help="class to reach instead of leaving the label's"),
    )
    eot: int = field(default=1, metadata=whole(1, help="forward passes averaged per gradient, for randomised models"))
    normalised: bool = field(
        default=False, metadata=switch(help="bring the gradient of every pass to unit L2 norm before averaging")
    )
    spread: float = field(
        default=0.0,
        metadata=real(0, help="every pass at a random point, at most so far from x in any value: smooths the gradient"),
    )
    backward: str | None = field(
        default=None,
        metadata=word(help="backward pass, of those that the model declares; none: all of them, one after the other"),
    )

    @property
    def stride(self) -> float:
        """Length of a step: `step_size`; if None, eps for a single step and 2.5 eps / steps for more.

        Tied to eps: a fixed step makes PGD weaker than FGSM at large eps.
        """
        if self.step_size is not None:
            return self.step_size
        return self.eps if self.steps == 1 else 2.5 * self.eps / self.steps

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        self.check_inputs(x)
        if self.eps == 0:
            return x.detach().clone()
        with frozen(model, self.backward):
            # Copies, made here: autograd does not take tensors that were made in inference mode.
            x, y = x.detach().clone(), y.to(x.device, copy=True)
            goal = self.goal(model, x, y, generator)
            found = self.search(model, x, goal, generator)
            return torch.where(per_image(goal.labels == y, x), x, found) if goal.targeted else found

    def goal(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Goal:
        """What to reach: away from `y`, or one target for every image."""
        away = Goal(y, loss=self.loss)
        if self.target is None:
            return away
        if isinstance(self.target, int):
            return Goal(torch.full_like(y, self.target), targeted=True, loss=self.loss)
        logits = predict(model, x, self.eot)
        away.value(logits)  # refuses labels that the model does not have
        scores = logits if self.target == "least-likely" else uniform(widened(logits), generator)
        return Goal(scores.scatter(1, away.labels[:, None], torch.inf).argmin(1), targeted=True, loss=self.loss)

    def fool(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None,
        slots: int | None = None,
        gradients: torch.dtype | None = None,
        advance_bar: Callable[[int], object] = lambda images: None,
    ) -> Attacked:
        """Try to fool `model` on all of `x` (N, ...), on a conveyor of `slots` images at a time (see `Conveyor`).

        Gradients are taken from an `attack_copy`, in the precision `gradients` (None: that of the model); whether an
        image fools the model is always asked of the model itself. `advance_bar` is told how many images are done.
        """
        self.check_inputs(x)
        with frozen(model):
            x, y, slots = x.detach().clone(), y.to(x.device, copy=True), slots or len(x)
            goal = self._goal_of_all(model, x, y, generator, slots)

            def followed(name: str | None, rows: Tensor, bar: Callable[[int], object]) -> Attacked:
                aims, streams = goal.select(rows), select(generator, rows)
                with surrogates(model, name):
                    surrogate = attack_copy(model, x[:8], gradients)
                    conveyor = Conveyor(self, model, surrogate, slots, streams, bar)
                    return conveyor.run(x[rows], aims, tried=aims.labels != y[rows] if aims.targeted else None)

            return each_way(self.passes(model), followed, x, advance_bar)

    def passes(self, model: nn.Module) -> tuple[str, ...]:
        """The backward passes to try on `model`, one after the other; none where it declares none."""
        return (self.backward,) if self.backward else declared_passes(model)

    def _goal_of_all(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None, slots: int
    ) -> Goal:
        """`goal` of all rows of x, `slots` at a time: the same for every backward pass."""
        parts = torch.arange(len(x), device=x.device).split(slots)
        goals = (self.goal(model, x[rows], y[rows], select(generator, rows)) for rows in parts)
        return functools.reduce(lambda one, other: one.joined(other), goals)

    def attempts(self, goal: Goal) -> int:
        """Searches of an image that none has fooled yet."""
        return self.restarts

    @property
    def repeats_itself(self) -> bool:
        """Whether a search that comes back to a point goes on from there as it did before."""
        return False

    def aim(self, goal: Goal, attempt: Tensor) -> Goal:
        """What the attempts with these numbers drive at."""
        return goal

    def begin(self, slots: Slots, generator: torch.Generator | None) -> None:
        """Put every row where its attempt starts."""
        slots.x = self.start(slots.origin, generator)

    def advance(self, slots: Slots, here: Slope) -> None:
        """One step of every row."""
        step = self.stride * self.geometry.steepest(here.gradient, slots.x, self.box)
        slots.x = self.within(slots.origin, slots.x - slots.origin + step)
        slots.step += 1

    def offer(self, slots: Slots) -> Tensor:
        """What to show for attempts that have failed."""
        return slots.x

    def search(self, model: nn.Module, x: Tensor, goal: Goal, generator: torch.Generator | None) -> Tensor:
        """Climb; then try again from images not yet fooled, and replace those that another attempt fools."""
        found = self.climb(model, x, self.aim(goal, torch.zeros_like(goal.labels)), generator)
        if self.attempts(goal) == 1:
            return found
        left = (~goal.reached(predict(model, found, self.eot))).nonzero().squeeze(1)
        for attempt in range(1, self.attempts(goal)):
            if len(left) == 0:
                break
            there = self.aim(goal.select(left), torch.full_like(left, attempt))
            tried = self.climb(model, x[left], there, select(generator, left))
            fooled = there.reached(predict(model, tried, self.eot))
            found[left[fooled]] = tried[fooled]
            left = left[~fooled]
        return found

    def climb(self, model: nn.Module, x: Tensor, goal: Goal, generator: torch.Generator | None) -> Tensor:
        """What one attempt comes to."""
        image = torch.arange(len(x), device=x.device)
        slots = Slots.fresh(image, torch.zeros_like(image), x, goal)
        self.begin(slots, generator)
        for _ in range(self.steps):
            self.advance(slots, self.look(model, slots, generator))
        return self.end(model, slots)

    def look(self, model: nn.Module, slots: Slots, generator: torch.Generator | None, check: bool = True) -> Slope:
        """The gradient at every row, an error if it is not finite; without `check` the host does not ask the device."""
        streams = generator if self.spread else None
        return slope(model, slots.x, slots.goal, self.eot, self.normalised, self.spread, streams, check)

    def end(self, model: nn.Module, slots: Slots) -> Tensor:
        """The result of attempts that have made all their steps: where they are."""
        return slots.x

    def start(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """x itself, or with `random_start` a uniform point of the ball, clipped to the box."""
        return self.box.clip(x + self.geometry.random_point(x, self.eps, generator)) if self.random_start else x

    def within(self, x: Tensor, delta: Tensor) -> Tensor:
        """x + delta, brought back into the ball, then the box (`perturb.geometry` says why it is in both)."""
        return self.box.clip(x + self.geometry.project(delta, self.eps))


@dataclass(frozen=True, kw_only=True, repr=False)
class FGSM(GradientAttack):
    """One step of length eps: x' = clip(x + eps * steepest(gradient L(x))); sign(gradient) in Linf.

    Goodfellow et al., ICLR 2015. Fast, and weak wherever the loss is curved: no evidence of robustness.
    """

    name: ClassVar[str] = "fgsm"
    title: ClassVar[str] = "FGSM"


@dataclass(frozen=True, kw_only=True, repr=False)
class BIM(GradientAttack):
    """Several steps from x itself. Deterministic, without `spread`.

    Kurakin et al., ICLR workshop 2017; our step is tied to eps (`stride`). Momentum: Dong et al., CVPR 2018.
    """

    name: ClassVar[str] = "bim"
    title: ClassVar[str] = "BIM"

    steps: int = field(default=20, metadata=whole(1, help="gradient steps"))
    step_size: float | None = field(
        default=None, metadata=real(0, optional=True, help="length of a step; none: 2.5 eps / steps")
    )
    momentum: float = field(
        default=0.0, metadata=real(0, help="decay of the sum of earlier gradients, each of unit L1 norm (MI-FGSM: 1)")
    )

    @property
    def repeats_itself(self) -> bool:
        return self.norm == "linf" and not self.momentum and self.eot == 1 and not self.spread

    def begin(self, slots: Slots, generator: torch.Generator | None) -> None:
        super().begin(slots, generator)
        if self.momentum:
            slots.memory["direction"] = torch.zeros_like(slots.x)

    def advance(self, slots: Slots, here: Slope) -> None:
        if self.momentum:
            earlier = self.momentum * slots.memory["direction"]
            slots.memory["direction"] = direction = earlier + unit(here.gradient, GEOMETRIES["l1"])
            here = here._replace(gradient=direction)
        super().advance(slots, here)


@dataclass(frozen=True, kw_only=True, repr=False)
class PGD(BIM):
    """Several steps from a random point of the ball, the best of several restarts. Madry et al., ICLR 2018.

    Keep-rule: the first restart's result stands, and a later restart replaces it only for images that it
    fools; an image once fooled is final and costs nothing more. The start is uniform in the ball in every
    norm.

    >>> import torch
    >>> import netprobe as npb
    >>> attack, x, y = npb.PGD(eps=8 / 255, steps=5), torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    >>> adversarial = attack(npb.load("digits_cnn"), x, y, generator=torch.Generator().manual_seed(0))
    >>> bool((adversarial - x).abs().max() <= 8 / 255 + 1e-6)
    True
    >>> npb.perturb.parse("pgd:eps=8/255,steps=5") == attack
    True
    """

    name: ClassVar[str] = "pgd"
    title: ClassVar[str] = "PGD"

    random_start: bool = field(default=True, metadata=switch(help="start at a random point of the ball"))
    restarts: int = field(default=1, metadata=whole(1, help="searches; images already fooled are not tried again"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restarts > 1 and not self.random_start:
            raise NetprobeError(
                f"PGD.restarts={self.restarts} without random_start would repeat one search: set it to 1"
            )

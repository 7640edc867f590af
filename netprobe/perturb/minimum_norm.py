"""Attacks that look for the smallest perturbation that fools: FMN, DeepFool and Carlini-Wagner, through foolbox."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.fields import choice, real, switch, whole
from netprobe.perturb.attack_copy import attack_copy
from netprobe.perturb.attacked import Attacked, part_by_part
from netprobe.perturb.geometry import per_image
from netprobe.perturb.libraries import UnitBox, needed
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import select
from netprobe.perturb.standing import Progress, StandingAttack

NUDGES = (0.0, 1e-5, 1e-4, 1e-3)
"""By how much a perturbation may be lengthened where rounding is all that keeps it from fooling the model."""

ORDERS = {"l0": 0, "l1": 1, "l2": 2, "linf": torch.inf}

OVERSHOOT = 1e-4
"""By how much FMN's balls are wider than the estimated distance to the boundary."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MinimumNormAttack(StandingAttack):
    """Find x' with f(x') != y and ||x' - x|| as small as the search can make it.

    `fool` returns such an x', or x itself with `fooled` False where the search failed: a failure has no norm, and is
    not to be left out of a mean silently. There is no strength; the norm takes its place in specs: "fmn:norm=l2".

    The search is foolbox's, in float32 on an `attack_copy`. It ends within rounding of the decision boundary, and the
    verdict is the model's: a perturbation that does not fool it is lengthened by up to 0.1 % before it counts as a
    failure. `forwards` and `backwards` are means over the images of a batch, rounded up. Of a model that declares
    several backward passes (`perturb.backward`) all images are attacked through each, and the nearest error counts.
    """

    strength: ClassVar[str] = "norm"
    example: ClassVar[str] = "l2"
    norm: str

    @property
    def idle(self) -> bool:
        return False

    @property
    def family(self) -> str:
        return f"{self.title} {self.norm.upper()}"

    def together(self, ways: Sequence[Callable[[Tensor], Attacked]], x: Tensor, advance_bar: Progress) -> Attacked:
        """The nearest of what all ways find; `broken_by` says which found it."""
        found = [way(torch.arange(len(x), device=x.device)) for way in ways]
        sizes = torch.stack([self._size(each.x - x).masked_fill(~each.fooled, torch.inf) for each in found])
        best, size = sizes.argmin(0), sizes.amin(0)
        chosen = torch.stack([each.x for each in found])[best, torch.arange(len(x), device=x.device)]
        passes = (sum(getattr(each, name) for each in found) for name in ("forwards", "backwards"))
        advance_bar(len(x))
        return Attacked(chosen, size.isfinite(), *passes, torch.where(size.isfinite(), best, -1))

    def _size(self, delta: Tensor) -> Tensor:
        return torch.linalg.vector_norm(delta.flatten(1), ORDERS[self.norm], dim=1)

    @abstractmethod
    def closest(self, surrogate: UnitBox, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """What the search finds, in [0, 1]; the image itself where it fails."""

    def assail(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None,
        slots: int,
        gradients: torch.dtype | None,
        advance_bar: Progress,
    ) -> Attacked:
        surrogate = UnitBox(attack_copy(model, x[:8]), self.box, x.dtype)

        def attacked(rows: Tensor) -> tuple[Tensor, ...]:
            found = self.closest(surrogate, x[rows], y[rows], select(generator, rows))
            return verdict(model, x[rows], y[rows], surrogate.moved(x[rows], found), surrogate)

        return part_by_part(attacked, x, slots, advance_bar)


@dataclass(frozen=True, kw_only=True, repr=False)
class FoolboxAttack(MinimumNormAttack):
    """A search of foolbox's, an extra: pip install netprobe-torch[attacks]."""

    @abstractmethod
    def library_attack(self, foolbox: ModuleType) -> object:
        """Foolbox's attack with our settings."""

    def closest(self, surrogate: UnitBox, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        foolbox = needed("foolbox", self.title)
        return run(foolbox, self.library_attack(foolbox), surrogate, surrogate.inner(x), y)


def run(foolbox: ModuleType, attack: object, surrogate: UnitBox, u: Tensor, y: Tensor, **more: Tensor) -> Tensor:
    """What foolbox's `attack` makes of images `u` (N, ...) in [0, 1]."""
    network = foolbox.PyTorchModel(surrogate, bounds=(0, 1), device=u.device)
    return attack.run(network, u, foolbox.criteria.Misclassification(y), **more)


def verdict(model: nn.Module, x: Tensor, y: Tensor, found: Tensor, surrogate: UnitBox) -> tuple[Tensor, ...]:
    """The fields of `Attacked` for what was found; x where the model is not fooled by it."""
    box, best = surrogate.box, x.clone()
    fooled, asked = torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y)
    for nudge in NUDGES:
        rows = (~fooled & (found != x).flatten(1).any(1)).nonzero().squeeze(1)
        if not len(rows):
            break
        longer = box.clip(found[rows] + nudge * (found[rows] - x[rows]))
        falls = predict(model, longer).argmax(1) != y[rows]
        asked[rows] += 1
        best[rows] = torch.where(per_image(falls, longer), longer, x[rows])
        fooled[rows] = falls
    forwards, backwards = surrogate.passes(y)
    return best, fooled, forwards + asked, backwards


@dataclass(frozen=True, kw_only=True, repr=False)
class FMN(FoolboxAttack):
    """Fast minimum norm: ascend the margin in a ball that shrinks while the model is fooled and grows while it is not.

        delta_{k+1} = clip(project(delta_k + a_k g / ||g||_2, eps_k));   eps_{k+1} = (1 -+ c_k) eps_k

    g: the gradient of max_{j != y} z_j - z_y; a_k falls from `max_stepsize` to a hundredth of it and c_k from `gamma`
    to 0.001, along a cosine. Deterministic; an image does not notice its batch.

    Pintor et al., NeurIPS 2021. foolbox 3.3.4 projects neither onto the L2 ball (it leaves delta as it is) nor, in L0,
    onto the eps largest coordinates (it keeps one more, and fails at eps = d): we do. Our balls are 0.01 % wider: where
    the model is linear the published ones end on the boundary and not beyond it. Cost: `steps` forward and
    backward passes.
    """

    follows_gradients: ClassVar[bool] = True
    name: ClassVar[str] = "fmn"
    title: ClassVar[str] = "FMN"

    norm: str = field(kw_only=False, metadata=choice(("l0", "l1", "l2", "linf"), help="norm to make small"))
    steps: int = field(default=100, metadata=whole(1, help="gradient steps"))
    max_stepsize: float = field(default=1.0, metadata=real(0, help="length of the first step, in boxes"))
    gamma: float = field(default=0.05, metadata=real(0, 1, help="share by which the first ball changes in a step"))

    def library_attack(self, foolbox: ModuleType) -> object:
        attack = _fmn_classes()[self.norm]
        return attack(steps=self.steps, max_stepsize=self.max_stepsize, gamma=self.gamma)


@functools.cache
def _fmn_classes() -> dict[str, type]:
    """Foolbox's attacks by norm, with the projections onto the L0 and L2 balls put right."""
    attacks = needed("foolbox", FMN.title).attacks

    class L0(attacks.L0FMNAttack):
        def project(self, x, x0, epsilon):
            delta = (x - x0).raw.flatten(1)
            rank = delta.abs().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            kept = torch.where(rank < epsilon.raw[:, None], delta, 0)
            return x0 + type(x0)(kept.view_as(x0.raw))

    class L2(attacks.L2FMNAttack):
        def project(self, x, x0, epsilon):
            delta = (x - x0).raw
            size = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
            return x0 + type(x0)(delta * per_image((epsilon.raw / size).clamp_max(1), delta))

    return {"l0": L0, "l1": _wider(attacks.L1FMNAttack), "l2": _wider(L2), "linf": _wider(attacks.LInfFMNAttack)}


def _wider(attack: type) -> type:
    class Wider(attack):
        def project(self, x, x0, epsilon):
            return super().project(x, x0, epsilon * (1 + OVERSHOOT))

    return Wider


@dataclass(frozen=True, kw_only=True, repr=False)
class DeepFool(FoolboxAttack):
    """Step to the nearest boundary of the linearised model until the class changes.

    x' = clip(x + (1 + overshoot) sum_k d_k), d_k the smallest step to where the logits of the predicted and of one of
    the `candidates` likeliest classes are equal, linearised at the point reached. Deterministic; an image does not
    notice its batch. Fast, and an upper bound only: FMN and Carlini-Wagner often find less.

    Moosavi-Dezfooli et al., CVPR 2016. Cost: steps * (candidates - 1) forward and backward passes at most.
    """

    follows_gradients: ClassVar[bool] = True
    name: ClassVar[str] = "deepfool"
    title: ClassVar[str] = "DeepFool"

    norm: str = field(default="l2", kw_only=False, metadata=choice(("l2", "linf"), help="norm to make small"))
    steps: int = field(default=50, metadata=whole(1, help="steps at most"))
    candidates: int = field(default=10, metadata=whole(2, help="likeliest classes, the predicted one included"))
    overshoot: float = field(default=0.02, metadata=real(0, help="how much further than the boundary, as a share"))

    def library_attack(self, foolbox: ModuleType) -> object:
        attack = {"l2": foolbox.attacks.L2DeepFoolAttack, "linf": foolbox.attacks.LinfDeepFoolAttack}[self.norm]
        return attack(steps=self.steps, candidates=self.candidates, overshoot=self.overshoot)


@dataclass(frozen=True, kw_only=True, repr=False)
class CarliniWagner(FoolboxAttack):
    """Minimise ||x' - x||_2^2 + c max(z_y - max_{j != y} z_j + confidence, 0) over w, x' = (1 + tanh w) / 2, by Adam.

    c is searched for by bisection, from `initial_const` up. With `abort_early` a round of the search ends when the
    loss of the whole batch has stopped falling, so that an image does notice its batch; without it it does not.

    Carlini and Wagner, S&P 2017. Cost: at most binary_search_steps * steps forward and backward passes.
    """

    follows_gradients: ClassVar[bool] = True
    name: ClassVar[str] = "cw-l2"
    title: ClassVar[str] = "Carlini-Wagner"

    norm: str = field(default="l2", kw_only=False, metadata=choice(("l2",), help="norm to make small"))
    steps: int = field(default=10_000, metadata=whole(1, help="steps of Adam for every c"))
    binary_search_steps: int = field(default=9, metadata=whole(1, help="values of c"))
    stepsize: float = field(default=0.01, metadata=real(0, help="learning rate of Adam"))
    confidence: float = field(default=0.0, metadata=real(0, help="by how much the wrong logit must lead"))
    initial_const: float = field(default=1e-3, metadata=real(0, help="first c"))
    abort_early: bool = field(default=True, metadata=switch(help="end a round when the loss no longer falls"))

    def library_attack(self, foolbox: ModuleType) -> object:
        return foolbox.attacks.L2CarliniWagnerAttack(
            steps=self.steps,
            binary_search_steps=self.binary_search_steps,
            stepsize=self.stepsize,
            confidence=self.confidence,
            initial_const=self.initial_const,
            abort_early=self.abort_early,
        )

    def closest(self, surrogate: UnitBox, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """As found; where it fails foolbox returns zeros, which may be classified as anything."""
        found, u = super().closest(surrogate, x, y, generator), surrogate.inner(x)
        return torch.where(per_image((found == 0).flatten(1).all(1), u), u, found)

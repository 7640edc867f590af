"""Attacks that work on the images that still stand: what they share."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netprobe.perturb.attacked import Attacked
from netprobe.perturb.base import Perturbation
from netprobe.perturb.frozen import frozen
from netprobe.perturb.objective import Goal, predict
from netprobe.perturb.randomness import select

Progress = Callable[[int], object]


@dataclass(frozen=True, kw_only=True, repr=False)
class StandingAttack(Perturbation):
    """Ask the model about every image, leave those that it gets wrong anyhow as they are, and attack the others.

    Called, it returns what `fool` finds: an image that fools the model, or what the attack offers where it failed.
    `forwards` counts the forward passes spent on an image, the first question (one) and the verdict included.

    To extend: `assail` attacks images that stand.
    """

    @abstractmethod
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
        """Attack `x` (N >= 1, ...), all classified as `y`; `fooled` must be the model's own verdict."""

    @property
    def idle(self) -> bool:
        """Whether its strength is 0, so that there is nothing to do."""
        return getattr(self, self.strength) == 0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        return self.fool(model, x, y, generator=generator).x

    def fool(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None,
        slots: int | None = None,
        gradients: torch.dtype | None = None,
        advance_bar: Progress = lambda images: None,
    ) -> Attacked:
        """Try to fool `model` on all of `x` (N, ...), with at most `slots` images in a forward pass (None: all)."""
        self.check_inputs(x)
        with frozen(model):
            x, y = x.detach().clone(), y.to(x.device, copy=True)
            whole = untouched(model, x, y, slots or len(x))
            standing = (~whole.fooled).nonzero().squeeze(1)
            advance_bar(len(x) - len(standing))
            if self.idle or not len(standing):
                advance_bar(len(standing))
                return whole
            part = self.assail(
                model,
                x[standing],
                y[standing],
                generator=select(generator, standing),
                slots=slots or len(x),
                gradients=gradients,
                advance_bar=advance_bar,
            )
            return with_part(whole, standing, part)


def untouched(model: nn.Module, x: Tensor, y: Tensor, slots: int) -> Attacked:
    """The images as they are, and whether the model gets them wrong: one forward pass each."""
    logits = predict_all(model, x, slots)
    goal = Goal(y)
    goal.check(logits)
    passes = torch.zeros_like(goal.labels)
    return Attacked(x.clone(), goal.reached(logits), passes + 1, passes)


def with_part(whole: Attacked, rows: Tensor, part: Attacked) -> Attacked:
    """`whole` with some rows attacked once more: theirs is the new outcome, and passes add up."""
    changed = {name: getattr(whole, name).clone() for name in ("x", "fooled", "forwards", "backwards")}
    changed["x"][rows], changed["fooled"][rows] = part.x, part.fooled
    for name in ("forwards", "backwards"):
        changed[name][rows] += getattr(part, name)
    if part.broken_by is not None:
        before = torch.full_like(whole.forwards, -1) if whole.broken_by is None else whole.broken_by
        changed["broken_by"] = before.index_copy(0, rows, part.broken_by)
    return dataclasses.replace(whole, **changed)


def in_turn(parts: Sequence[Callable[[Tensor], Attacked]], x: Tensor, advance_bar: Progress) -> Attacked:
    """What several attacks on `x` (N, ...) come to, each called with the rows that the earlier ones left standing.

    `broken_by` is the number of the one that fooled the model, -1 for none. Where all failed, the result is the last's.
    """
    none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    whole = Attacked(x.clone(), none.bool(), none, none, none - 1)
    for number, attacked in enumerate(parts):
        left = (~whole.fooled).nonzero().squeeze(1)
        if not len(left):
            break
        part = attacked(left)
        whole = with_part(whole, left, dataclasses.replace(part, broken_by=torch.where(part.fooled, number, -1)))
        advance_bar(int(part.fooled.sum()))
    advance_bar(int((~whole.fooled).sum()))
    return whole


def predict_all(model: nn.Module, x: Tensor, slots: int) -> Tensor:
    """The logits at x (N, ...), `slots` images in a forward pass."""
    return torch.cat([predict(model, part) for part in x.split(slots)])

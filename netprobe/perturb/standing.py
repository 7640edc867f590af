"""Attacks that work on the images that still stand: what they share."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.perturb.attacked import Attacked
from netprobe.perturb.backward import declared_passes, surrogates
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

    One that follows gradients tries every backward pass that the model declares (`perturb.backward`), each on what the
    ones before left standing.

    To extend: `assail` attacks images that stand; `follows_gradients` where it asks the model for gradients.
    """

    follows_gradients: ClassVar[bool] = False

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
            x, y, streams, how = x[standing], y[standing], select(generator, standing), (slots or len(x), gradients)

            def assailed(name: str | None, rows: Tensor, bar: Progress) -> Attacked:
                named = {"generator": select(streams, rows), "slots": how[0], "gradients": how[1], "advance_bar": bar}
                with surrogates(model, name):
                    return self.assail(model, x[rows], y[rows], **named)

            return with_part(whole, standing, each_way(self.passes(model), assailed, x, advance_bar, self.together))

    def passes(self, model: nn.Module) -> tuple[str, ...]:
        """The backward passes to try on `model`; none where it declares none, or where no gradient is asked for."""
        return declared_passes(model) if self.follows_gradients else ()

    def together(self, ways: Sequence[Callable[[Tensor], Attacked]], x: Tensor, advance_bar: Progress) -> Attacked:
        """What several attacks on `x` come to, each called with rows: one after the other, on what still stands."""
        return in_turn(ways, x, advance_bar)


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


def each_way(
    names: Sequence[str], attacked: Callable, x: Tensor, advance_bar: Progress, together: Callable | None = None
) -> Attacked:
    """What an attack comes to by each of the backward passes `names` that the model has; none: by its true gradient.

    `attacked(name, rows, bar)` follows one of them on some rows of x (N, ...); of several, `together` makes one result
    (None: `in_turn`). `broken_by` is the number of the pass that fooled the model; -1 too where x was wrong anyhow.
    """
    if len(names) > 1:
        ways = [partial(attacked, name, bar=lambda images: None) for name in names]
        found = (together or in_turn)(ways, x, advance_bar)
    else:
        found = attacked(names[0] if names else None, torch.arange(len(x), device=x.device), advance_bar)
    if not names:
        return found
    moved = (found.x != x).flatten(1).any(1)
    number = torch.zeros_like(found.forwards) if found.broken_by is None else found.broken_by
    return dataclasses.replace(found, broken_by=torch.where(found.fooled & moved, number, -1))


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

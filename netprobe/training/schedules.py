"""Learning rate and momentum of a step, as pure functions: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from netprobe.errors import NetprobeError, unknown
from netprobe.recipes import SCHEDULES, Recipe

DIP = 0.1
"""How far the cyclic schedule lowers momentum at the largest rate, from 0.9 to 0.8 by default, as torch does."""


class Rates(NamedTuple):
    """What the optimiser uses for one step."""

    lr: float
    momentum: float


def rates(recipe: Recipe, step: int, steps_per_epoch: int, history: Sequence[float] = (), settled: int = 0) -> Rates:
    """The rates to use for update number `step`, from 0, of a training of `recipe.epochs` epochs.

        constant   lr
        step       lr gamma^k, k the milestones that are at most the epoch, epochs counted from 0, or from the latest of
                   the epochs `cycles`; with `factors` lr times the k-th of them, and lr before the first milestone
        exponential   lr gamma^k, k the epochs since the first milestone (none: since 0)
        cosine     lr (1 + cos(π t)) / 2,  t = step / steps in all
        cyclic     lr c,  c = t / peak rising, (1 - t) / (1 - peak) falling;  momentum - 0.1 c if cycle_momentum;
                   t the share done of the cycle: one, or several that begin at the epochs `cycles`
        plateau    lr gamma^k, k the times that more than plateau_patience epochs in a row brought no new best

    Parameters
    ----------
    recipe : the fields that its `schedule` reads, each named as above.
    step, steps_per_epoch : whole numbers; steps before this one, in all epochs, and of an epoch.
    history : how good every epoch so far was, larger is better; only plateau reads it. NaN is no new best.
    settled : the epoch that `history` begins with; those before do not count.

    Notes
    -----
    torch.optim.lr_scheduler's MultiStepLR and ReduceLROnPlateau(mode="max", threshold=0), stepped once an epoch, and
    CosineAnnealingLR and CyclicLR (one triangle from 0, cycle_momentum), stepped once an update. The first update of
    cyclic has rate 0, as there.
    """
    epoch, done = step // steps_per_epoch, step / (steps_per_epoch * recipe.epochs)
    match recipe.schedule:
        case "constant":
            scale = 1.0
        case "step":
            begun = max(bound for bound in (0, *recipe.cycles) if bound <= epoch)
            passed = sum(milestone <= epoch - begun for milestone in recipe.milestones)
            scale = recipe.gamma**passed if recipe.factors is None else (1.0, *recipe.factors)[passed]
        case "exponential":
            scale = recipe.gamma ** max(epoch - (recipe.milestones or (0,))[0], 0)
        case "cosine":
            scale = (1 + math.cos(math.pi * done)) / 2
        case "cyclic":
            done = _share_of_cycle(recipe, step / steps_per_epoch)
            scale = done / recipe.peak if done < recipe.peak else (1 - done) / (1 - recipe.peak)
        case "plateau":
            scale = recipe.gamma ** _plateaus(history, max(epoch - settled, 0), recipe.plateau_patience)
        case other:
            raise unknown("schedule", other, SCHEDULES)
    dip = DIP * scale if recipe.schedule == "cyclic" and recipe.cycle_momentum else 0.0
    return Rates(recipe.lr * scale, max(recipe.momentum - dip, 0.0))


def _share_of_cycle(recipe: Recipe, epochs: float) -> float:
    """How much of the cycle that one is in after so many epochs is done."""
    bounds = [0, *recipe.cycles, recipe.epochs]
    first = max(bound for bound in bounds[:-1] if bound <= epochs)
    last = bounds[bounds.index(first) + 1]
    return (epochs - first) / (last - first)


def _plateaus(history: Sequence[float], epochs: int, patience: int) -> int:
    """How often, in the first `epochs` of `history`, more than `patience` in a row brought no new best."""
    if len(history) < epochs:
        raise NetprobeError(
            f"schedule='plateau' needs the criterion of every epoch, and after {epochs} epochs there are "
            f"{len(history)}: hold images out (validation=0.02), or choose another schedule"
        )
    best, idle, plateaus = -math.inf, 0, 0
    for value in history[:epochs]:
        best, idle = (value, 0) if value > best else (best, idle + 1)
        if idle > patience:
            idle, plateaus = 0, plateaus + 1
    return plateaus

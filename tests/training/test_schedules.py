"""Learning rates and momentum are those of torch's schedulers, step by step."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    MultiStepLR,
    ReduceLROnPlateau,
)

from netprobe.errors import NetprobeError
from netprobe.recipes import SCHEDULES, Recipe
from netprobe.training.schedules import rates

EPOCHS, STEPS = 6, 7  # an odd number of steps an epoch, so that peaks need not fall on a step
ROUNDING = {"rel": 1e-9, "abs": 1e-12}  # float64, in another order; torch's cosine is a recursion over all steps


def recipe(schedule: str, **settings) -> Recipe:
    return Recipe(epochs=EPOCHS, lr=0.05, schedule=schedule, **settings)


def sgd(momentum: float = 0.9) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05, momentum=momentum)


def by_torch(optimizer, scheduler, each: str, history=()) -> list[tuple[float, float]]:
    """The rates of every update, as a training loop around torch's scheduler meets them."""
    found = []
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            (group,) = optimizer.param_groups
            found.append((group["lr"], group["momentum"]))
            optimizer.step()
            if each == "step":
                scheduler.step()
        if each == "epoch":
            scheduler.step(*([history[epoch]] if history else []))
    return found


def assert_same(recipe: Recipe, reference, history=()) -> None:
    for step, (lr, momentum) in enumerate(reference):
        ours = rates(recipe, step, STEPS, history[: step // STEPS])
        assert ours.lr == pytest.approx(lr, **ROUNDING), step
        assert ours.momentum == pytest.approx(momentum, **ROUNDING), step


def test_constant():
    assert {rates(recipe("constant"), step, STEPS) for step in range(EPOCHS * STEPS)} == {(0.05, 0.9)}


@pytest.mark.parametrize("milestones", [(), (0,), (3,), (1, 4)])
def test_step_is_torchs(milestones):
    optimizer = sgd()
    reference = by_torch(optimizer, MultiStepLR(optimizer, milestones, gamma=0.3), "epoch")
    assert_same(recipe("step", milestones=milestones, gamma=0.3), reference)


def test_steps_of_any_size_are_torchs():
    optimizer, shares = sgd(), {0: 1.0, 1: 0.5, 3: 0.7, 4: 0.01}
    scheduler = LambdaLR(optimizer, lambda epoch: shares[max(first for first in shares if first <= epoch)])
    several = recipe("step", milestones=(1, 3, 4), factors=(0.5, 0.7, 0.01), gamma=0.3)
    assert_same(several, by_torch(optimizer, scheduler, "epoch"))


@pytest.mark.parametrize("settings", [{"schedule": "cosine"}, {"schedule": "step", "milestones": (1, 2, 3)}])
def test_a_factor_for_each_milestone(settings):
    with pytest.raises(NetprobeError, match=r"factors=0\.5,0\.1 must be one number for each of the [13] milestones"):
        recipe(**{"factors": "0.5,0.1", "milestones": (1,)} | settings)


def test_exponential_is_torchs():
    optimizer = sgd()
    reference = by_torch(optimizer, ExponentialLR(optimizer, 0.8), "epoch")
    assert_same(recipe("exponential", milestones=(), gamma=0.8), reference)
    later = recipe("exponential", milestones=(2,), gamma=0.8)
    assert_same(later, [(0.05, 0.9)] * (2 * STEPS) + reference[: (EPOCHS - 2) * STEPS])


def test_cosine_is_torchs():
    optimizer = sgd()
    assert_same(recipe("cosine"), by_torch(optimizer, CosineAnnealingLR(optimizer, EPOCHS * STEPS), "step"))
    assert rates(recipe("cosine"), EPOCHS * STEPS, STEPS).lr == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("peak", [0.5, 0.2])
@pytest.mark.parametrize("cycle_momentum", [True, False])
def test_cyclic_is_torchs(peak, cycle_momentum):
    optimizer, steps = sgd(), EPOCHS * STEPS
    scheduler = CyclicLR(
        optimizer, 0, 0.05, step_size_up=peak * steps, step_size_down=(1 - peak) * steps, cycle_momentum=cycle_momentum
    )
    reference = by_torch(optimizer, scheduler, "step")
    assert reference[0] == (0, 0.9)
    assert_same(recipe("cyclic", peak=peak, cycle_momentum=cycle_momentum), reference)


def test_cycles_begin_anew():
    """Two triangles, of 2 and of 4 epochs, as two trainings of those lengths have."""
    several = recipe("cyclic", cycles=(2,))
    for step in range(6 * STEPS):
        first = step < 2 * STEPS
        alone = recipe("cyclic").with_settings(epochs=2 if first else 4)
        expected = rates(alone, step if first else step - 2 * STEPS, STEPS)
        assert rates(several, step, STEPS) == pytest.approx(expected)


def test_steps_begin_anew_with_every_cycle():
    several = recipe("step", milestones=(1, 2), gamma=0.3, cycles=(4,))
    lrs = [rates(several, STEPS * epoch, STEPS).lr for epoch in range(EPOCHS)]
    assert lrs == pytest.approx([0.05 * 0.3**k for k in (0, 1, 2, 2, 0, 1)])


def test_cyclic_by_hand():
    # 42 steps: the top is at the 21st, a third of the way up at the 7th and down at the 35th.
    at = {step: rates(recipe("cyclic"), step, STEPS) for step in (0, 7, 21, 35, 42)}
    assert [at[step].lr for step in at] == pytest.approx([0, 0.05 / 3, 0.05, 0.05 / 3, 0], abs=1e-12)
    assert [at[step].momentum for step in at] == pytest.approx([0.9, 0.9 - 0.1 / 3, 0.8, 0.9 - 0.1 / 3, 0.9])


def test_momentum_does_not_fall_below_zero():
    assert rates(recipe("cyclic", momentum=0.0), 21, STEPS).momentum == 0


HISTORIES = {
    "rising": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    "falling": [0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
    "level": [0.5] * 6,
    "late": [0.5, 0.4, 0.4, 0.6, 0.5, 0.5],
    "undefined": [0.5, math.nan, math.nan, 0.6, math.nan, 0.4],
}


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("patience", [0, 1, 2])
def test_plateau_is_torchs(name, patience):
    optimizer = sgd()
    scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.3, patience=patience, threshold=0, eps=0)
    reference = by_torch(optimizer, scheduler, "epoch", HISTORIES[name])
    assert_same(recipe("plateau", gamma=0.3, plateau_patience=patience), reference, HISTORIES[name])


def test_plateau_reads_no_epoch_that_is_still_to_come():
    one = recipe("plateau", plateau_patience=0)
    assert rates(one, 1 * STEPS, STEPS, [0.5, 0.4, 0.3]) == rates(one, 1 * STEPS, STEPS, [0.5])


def test_plateau_without_a_criterion_says_so():
    assert rates(recipe("plateau"), STEPS - 1, STEPS).lr == 0.05  # in the first epoch there is none yet
    with pytest.raises(NetprobeError, match=r"after 2 epochs there are 1: hold images out \(validation=0.02\)"):
        rates(recipe("plateau"), 2 * STEPS, STEPS, [0.5])


def test_every_schedule_of_recipes_is_known_and_no_other():
    for name in SCHEDULES:
        assert rates(recipe(name), 0, STEPS).momentum == 0.9
    settings = {field: getattr(recipe("step"), field) for field in ("lr", "momentum", "epochs")}
    with pytest.raises(NetprobeError, match="unknown schedule 'cycle': did you mean 'cyclic'"):
        rates(SimpleNamespace(schedule="cycle", **settings), 0, STEPS)

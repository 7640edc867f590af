"""Auto-PGD against a slow loop over single images, its losses against hand-made numbers, its settings."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from netprobe.errors import NetprobeError
from netprobe.perturb import APGD, BIM, GEOMETRIES, ImageGenerator, TargetedAPGD, parse
from netprobe.perturb.geometry import Box
from netprobe.perturb.objective import Escape, Goal, logits_ratio, slope, targeted_logits_ratio

LOGITS = torch.tensor([[3.0, 1.0, 0.5, -2.0], [0.0, 5.0, 4.0, 1.0]], dtype=torch.float64)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 5)).double().eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(5, 3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_ratio_by_hand():
    labels = torch.tensor([0, 0])
    expected = torch.tensor([-(3 - 1) / (3 - 0.5), -(0 - 5) / (5 - 1)], dtype=torch.float64)
    torch.testing.assert_close(logits_ratio(LOGITS, labels, False), expected)
    torch.testing.assert_close(logits_ratio(LOGITS, labels, True), -expected)


def test_targeted_ratio_by_hand():
    labels, targets = torch.tensor([0, 0]), torch.tensor([1, 3])
    expected = torch.tensor([-(3 - 1) / (3 - (0.5 - 2) / 2), -(0 - 1) / (5 - (1 + 0) / 2)], dtype=torch.float64)
    torch.testing.assert_close(targeted_logits_ratio(LOGITS, targets, labels), expected)


@pytest.mark.parametrize("shift", [0.0, 7.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_ratios_do_not_notice_shift_and_scale(scale, shift):
    labels, targets = torch.tensor([0, 2]), torch.tensor([1, 0])
    changed = scale * (LOGITS + shift)
    torch.testing.assert_close(logits_ratio(changed, labels, False), logits_ratio(LOGITS, labels, False))
    ours = targeted_logits_ratio(changed, targets, labels)
    torch.testing.assert_close(ours, targeted_logits_ratio(LOGITS, targets, labels))


def test_scaled_up_logits_hide_the_gradient_from_cross_entropy_but_not_from_the_ratio(model, x):
    class Scaled(nn.Module):
        def forward(self, x):
            return 1e4 * model(x)

    y = model(x).argmax(1)
    assert (slope(Scaled(), x, Goal(y)).gradient == 0).any()
    hidden, open_ = (slope(net, x, Goal(y, loss="dlr")).gradient for net in (Scaled(), model))
    torch.testing.assert_close(hidden, open_, rtol=1e-6, atol=1e-12)


def test_too_few_classes_for_a_ratio():
    with pytest.raises(NetprobeError, match="compares 3 classes, but the model has 2"):
        logits_ratio(LOGITS[:, :2], torch.tensor([0, 1]), False)
    with pytest.raises(NetprobeError, match="compares 4 classes, but the model has 3"):
        targeted_logits_ratio(LOGITS[:, :3], torch.tensor([1, 0]), torch.tensor([0, 1]))


def test_ways_of_escape_are_the_likeliest_wrong_classes():
    goal = Escape.by_likeliest(LOGITS, torch.tensor([0, 2]), 9)
    assert goal.ways.tolist() == [[1, 2, 3], [1, 3, 0]]
    assert goal.by(torch.tensor([2, 0])).labels.tolist() == [3, 1]
    assert goal.reached(LOGITS).tolist() == [False, True]
    both = goal.select(torch.tensor([1])).joined(goal.select(torch.tensor([0])))
    assert both.ways.tolist() == [[1, 3, 0], [1, 2, 3]]
    assert both.truth.tolist() == [2, 0]


# --- the ascent ------------------------------------------------------------------------------------------------


def slow_apgd(model, x, goal, eps, norm, steps, streams):
    """Auto-PGD of one image (1, ...), spelled out from the paper; the point of the largest value."""
    geometry, box = GEOMETRIES[norm], Box()

    def look(z):
        here = slope(model, z, goal)
        return here.value.item(), here.gradient

    def within(z):
        return (x + geometry.project(z - x, eps)).clamp(0, 1)

    z = previous = within(x + geometry.random_point(x, eps, streams))
    value, gradient = look(z)
    best, best_value, best_gradient = z, value, gradient
    values, stride, period, since, halved, at_checkpoint = [value], 2 * eps, max(int(0.22 * steps), 1), 0, True, value
    for step in range(steps):
        a = 0.75 if step else 1.0
        ahead = within(z + stride * geometry.steepest(gradient, z, box))
        previous, z = z, within(z + a * (ahead - z) + (1 - a) * (z - previous))
        value, gradient = look(z)
        values.append(value)
        if value > best_value:
            best, best_value, best_gradient = z, value, gradient
        since += 1
        if since == period and step < steps - 1:
            stretch = values[-period - 1 :]
            raised = sum(later > earlier for earlier, later in itertools.pairwise(stretch))
            halve = raised <= 0.75 * period or (not halved and at_checkpoint >= best_value)
            halved, at_checkpoint = halve, best_value
            if halve:
                stride, z, gradient = stride / 2, best, best_gradient
            period, since = max(period - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)), 0
    return best


@pytest.mark.parametrize("loss", ["ce", "dlr", "cw"])
@pytest.mark.parametrize(("norm", "eps", "steps"), [("linf", 0.05, 40), ("l2", 0.3, 40), ("l1", 1.5, 40)])
def test_it_is_the_slow_loop(model, x, norm, eps, steps, loss):
    """In L1 each step moves one coordinate, and near ties the last bit decides which: there the values must agree."""
    y = torch.arange(5)
    ours = APGD(eps, norm=norm, steps=steps, loss=loss)(model, x, y, generator=ImageGenerator(0, range(5)))
    for i in range(5):
        goal = Goal(y[i : i + 1], loss=loss)
        slow = slow_apgd(model, x[i : i + 1], goal, eps, norm, steps, ImageGenerator(0, [i]))
        torch.testing.assert_close(goal.value(model(ours[i : i + 1])), goal.value(model(slow)), rtol=1e-3, atol=0)
        if norm != "l1":
            torch.testing.assert_close(ours[i : i + 1], slow, rtol=0, atol=1e-7)


def test_targeted_one_aims_at_one_class_after_another(model, x):
    y = model(x).argmax(1)
    aims = []

    class Noting(TargetedAPGD):
        def aim(self, goal, attempt):
            aims.append(attempt.unique().tolist())
            return super().aim(goal, attempt)

    Noting(1e-6, steps=3, targets=9)(model, x, y, generator=ImageGenerator(0, range(5)))
    assert aims == [[0], [1], [2], [3]]  # five classes have four wrong ones


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.25)])
def test_it_climbs_at_least_as_high_as_plain_steps(model, x, norm, eps):
    y = model(x).argmax(1)
    plain = BIM(eps, norm=norm, steps=100)(model, x, y, generator=None)
    ours = APGD(eps, norm=norm, steps=100)(model, x, y, generator=ImageGenerator(0, range(5)))
    assert (Goal(y).value(model(ours)) >= Goal(y).value(model(plain)) - 1e-4).all()


def test_it_starts_anywhere_in_the_ball(model, x):
    attack, starts = APGD(0.05), []
    for seed in (0, 1):
        starts.append(attack.start(x, ImageGenerator(seed, range(5))))
    assert not torch.equal(*starts)
    assert max(float((s - x).abs().max()) for s in starts) <= 0.05


def test_specs():
    assert parse("apgd:eps=8/255,loss=dlr") == APGD(8 / 255, loss="dlr")
    assert parse("apgd-t:eps=8/255,targets=3") == TargetedAPGD(8 / 255, targets=3)
    assert APGD(0.1).family == "APGD"
    assert APGD(0.1, norm="l2", loss="dlr").family == "APGD L2 DLR"
    with pytest.raises(NetprobeError, match="unknown setting of apgd-t 'loss'"):
        parse("apgd-t:eps=8/255,loss=ce")

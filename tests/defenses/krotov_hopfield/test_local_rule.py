"""The local rule against its equations, and the laws that follow from them."""

from __future__ import annotations

import pytest
import torch
from reference_local import batched, sequential

from netprobe.defenses.krotov_hopfield import Learner, LocalRule, change, signed_power
from netprobe.defenses.krotov_hopfield.rule import changes, drive
from netprobe.errors import NetprobeError

D, H, B = 12, 9, 15
SETTINGS = [
    {"p": 3.0, "k": 2, "delta": 0.4, "radius": 1.0},
    {"p": 2.0, "k": 4, "delta": 0.3, "radius": 1.5},
    {"p": 2.7, "k": H, "delta": 0.0, "radius": 0.7},
    {"p": 1.5, "k": 3, "delta": 0.4, "radius": 1.0},
]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def made() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(H, D, dtype=torch.float64), torch.rand(B, D, dtype=torch.float64)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_batched_change_is_that_of_the_double_loop(settings):
    weight, v = made()
    expected, rule = batched(weight, v, **settings), LocalRule(**settings)
    torch.testing.assert_close(change(weight, v, rule), expected)
    units, moved = changes(weight, signed_power(weight, rule.p), v, rule)
    torch.testing.assert_close(torch.zeros_like(weight).index_copy(0, units, moved), expected)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("where", ["_few", "_all"])
def test_many_steps_on_a_cpu_and_on_a_gpu_are_those_of_the_equations(settings, where):
    weight, v = made()
    learner, expected = Learner(weight.clone(), LocalRule(**settings)), weight
    for part in v.split(5):
        getattr(learner, where)(part, 0.02)
        moved = batched(expected, part, **settings)
        expected = expected + 0.02 * moved / moved.abs().max()
    torch.testing.assert_close(learner.weight, expected)
    torch.testing.assert_close(learner.powered, signed_power(expected, settings["p"]))


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_exact_rule_is_that_of_the_loop(settings):
    weight, v = made()
    learner, expected = Learner(weight.clone(), LocalRule(**settings, rule="sequential")), weight
    learner.step(v, 0.02)
    for sample in v:
        expected = sequential(expected, sample, 0.02, **settings)
    torch.testing.assert_close(learner.weight, expected)
    torch.testing.assert_close(learner.norms, (expected.abs() ** settings["p"]).sum(1) ** (1 / settings["p"]))


@pytest.mark.parametrize("settings", SETTINGS)
def test_how_norms_flow(settings):
    """p sum_i W^_i dW_i = p (sum_b g h) (R^p - ||W||_p^p), for every unit."""
    weight, v = made()
    p, radius = settings["p"], settings["radius"]
    powered = signed_power(weight, p)
    h = v @ powered.T
    g = drive(h, settings["k"], settings["delta"])
    flow = p * (powered * change(weight, v, LocalRule(**settings))).sum(1)
    expected = p * (g * h).sum(0) * (radius**p - (weight.abs() ** p).sum(1))
    torch.testing.assert_close(flow, expected)


@pytest.mark.parametrize("where", ["_few", "_all"])
def test_the_largest_change_is_the_rate(where):
    weight, v = made()
    learner = Learner(weight.clone(), LocalRule())
    getattr(learner, where)(v, 0.02)
    # Weights are about 1, so differences carry their rounding, 1e-16, of 0.02.
    assert (learner.weight - weight).abs().max().item() == pytest.approx(0.02, rel=1e-13)


@pytest.mark.parametrize("rule", ["batched", "sequential"])
def test_a_rate_of_zero_changes_no_bit(rule):
    weight, v = made()
    learner = Learner(weight.clone(), LocalRule(rule=rule))
    learner.step(v, 0.0)
    assert torch.equal(learner.weight, weight)


def test_tiny_changes_are_not_blown_up():
    weight, v = made()
    learner = Learner(weight.clone(), LocalRule())
    learner.step(0 * v, 0.02)
    assert torch.equal(learner.weight, weight)


def test_every_sample_drives_two_units_and_all_others_stay():
    weight, v = made()
    g = drive(v @ signed_power(weight, 3.0).T, 3, 0.4)
    torch.testing.assert_close(g.sum(1), torch.full((B,), 0.6, dtype=g.dtype))
    assert ((g == 1).sum(1) == 1).all() and ((g == -0.4).sum(1) == 1).all() and ((g != 0).sum(1) == 2).all()
    idle = (g == 0).all(0)
    assert idle.any() and not change(weight, v, LocalRule(k=3))[idle].any()


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0, 4.2])
def test_one_unit_comes_to_its_only_input(p):
    """W -> R v / ||v||_p."""
    v = torch.rand(1, D, dtype=torch.float64) + 0.1
    # A second unit that loses always takes the place of rank k, with Delta = 0.
    rule = LocalRule(p=p, radius=1.3, delta=0.0)
    learner = Learner(torch.stack([torch.ones(D), -torch.ones(D)]).double(), rule)
    for step in range(2500):
        learner.step(v, 0.02 * (1 - step / 2500))
    expected = 1.3 * v[0] / torch.linalg.vector_norm(v[0], p)
    # The last steps are 0.02 / 2500 long, whatever is left to do.
    torch.testing.assert_close(learner.weight[0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(learner.weight[1], -torch.ones(D, dtype=torch.float64))


def test_the_order_of_a_batch_does_not_matter():
    weight, v = made()
    one, other = Learner(weight.clone(), LocalRule()), Learner(weight.clone(), LocalRule())
    one.step(v, 0.02)
    other.step(v.flip(0), 0.02)
    torch.testing.assert_close(one.weight, other.weight)


@pytest.mark.parametrize("p", [1.5, 2.0, 2.5, 3.0, 4.0])
def test_powers_keep_signs_and_are_numbers_for_any_p(p):
    weight = torch.tensor([-0.5, 0.0, 0.25, -1e-20, 2.0])
    powered = signed_power(weight, p)
    expected = [(-1.0 if w < 0 else 1.0) * abs(w) ** (p - 1) for w in weight.double().tolist()]
    torch.testing.assert_close(powered, torch.tensor(expected).float())
    tiny = torch.finfo(torch.float32).tiny
    assert ((powered == 0) | (powered.abs() >= tiny)).all()  # nothing subnormal


def test_weights_of_dead_inputs_fall_to_zero_and_not_to_subnormal_numbers():
    v = torch.rand(20, D)
    v[:, 0] = 0
    learner = Learner(torch.rand(3, D) + 0.1, LocalRule(k=2, delta=0.0))
    learner.weight[:, 0] = 3e-30
    learner.powered = signed_power(learner.weight, 3.0)
    for _ in range(2000):
        learner.step(v, 0.05)
    won = (v @ learner.powered.T).argmax(1).unique()
    assert not learner.weight[won, 0].any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"k": 1}, "k must be a whole number, 2 or more"),
        ({"p": 1.0}, "p must be a number between 1 and inf"),
        ({"delta": -0.1}, "delta must be a number in"),
        ({"radius": 0.0}, "radius must be a number between"),
        ({"rule": "exact"}, "unknown.*rule"),
    ],
)
def test_bad_settings_are_named(wrong, said):
    with pytest.raises(NetprobeError, match=said):
        LocalRule(**wrong)


def test_more_ranks_than_units():
    with pytest.raises(NetprobeError, match="k=4 ranks 3 unit"):
        Learner(torch.ones(3, D), LocalRule(k=4))

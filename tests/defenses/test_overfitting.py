"""Histories written by hand, and what they show."""

import pytest

from netprobe.defenses import parse_defense
from netprobe.defenses.overfitting import INTERVAL, ROBUST, best_epoch, catastrophe, robust_overfitting
from netprobe.uncertainty import wilson


def history(*epochs, images=1000):
    """Records from pairs (accuracy on the training attack, robust validation accuracy)."""
    return [
        {"epoch": i, "accuracy": a, ROBUST: r, INTERVAL: list(wilson(round(r * images), images))}
        for i, (a, r) in enumerate(epochs, 1)
    ]


def test_a_fall_of_robust_accuracy_while_the_training_attack_is_mastered_is_catastrophic():
    found = catastrophe(history((0.3, 0.28), (0.4, 0.35), (0.8, 0.02)))
    assert "from 35.0% (epoch 2) to 2.0%" in found
    assert "from 40.0% to 80.0%" in found


@pytest.mark.parametrize(
    "epochs",
    [
        [(0.3, 0.28)],  # nothing to fall from
        [(0.3, 0.28), (0.4, 0.35), (0.42, 0.33)],  # within the intervals
        [(0.3, 0.28), (0.4, 0.35), (0.2, 0.1)],  # the training attack fools it as well: no overfitting
        [(0.3, 0.28), (0.4, 0.35), (0.8, 0.02), (0.5, 0.36)],  # recovered
    ],
)
def test_other_histories_are_not(epochs):
    assert catastrophe(history(*epochs)) is None


def test_the_guard_of_fast_training_stops_there_and_can_be_switched_off():
    fallen = history((0.4, 0.35), (0.8, 0.02))
    assert "catastrophic" in parse_defense("fast").stops(fallen)
    assert parse_defense("fast:guard=false").stops(fallen) is None
    assert parse_defense("pgd-at").stops(fallen) is None


def test_an_end_surely_below_the_best_epoch_is_robust_overfitting():
    assert "45.0% at epoch 2" in robust_overfitting(history((0.4, 0.40), (0.5, 0.45), (0.9, 0.38)))
    assert robust_overfitting(history((0.4, 0.40), (0.5, 0.45), (0.6, 0.44))) is None


def test_without_robust_validation_there_is_nothing_to_see():
    plain = [{"epoch": 1, "accuracy": 0.5}, {"epoch": 2, "accuracy": 0.4}]
    assert best_epoch(plain) is None
    assert catastrophe(plain) is None
    assert robust_overfitting(plain) is None

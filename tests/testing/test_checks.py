"""Every check passes on a class that keeps the laws, and every law fails on one that breaks it, and says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "plugin"))

import broken_metrics
import broken_perturbations
import broken_trainings
import neighbours

from netprobe import testing
from netprobe.testing import defenses, metrics, perturbations, regularisers

KEPT = {
    testing.check_metric: [broken_metrics.MeanSquare()],
    testing.check_perturbation: [neighbours.Darken(0.3), "gaussian:std=0.1"],
    testing.check_defense: [neighbours.SmoothLabels()],
    testing.check_regulariser: [neighbours.Centred(coupling=1.0)],
}
BROKEN = [
    (metrics.LAWS, lambda broken: metrics.MetricSubject(broken()), broken_metrics.BROKEN),
    (perturbations.LAWS, perturbations.PerturbationSubject, broken_perturbations.BROKEN),
    (defenses.LAWS, defenses.DefenseSubject, broken_trainings.DEFENSES),
    (regularisers.LAWS, regularisers.RegulariserSubject, broken_trainings.REGULARISERS),
]
CASES = [(law, subject, broken[law.name]) for laws, subject, broken in BROKEN for law in laws]


@pytest.mark.parametrize("check, subjects", KEPT.items(), ids=[check.__name__ for check in KEPT])
def test_what_keeps_the_laws_passes_and_the_names_of_the_laws_come_back(check, subjects):
    for subject in subjects:
        checked = check(subject)
        assert len(set(checked)) == len(checked) > 4


@pytest.mark.parametrize("law, subject, broken", CASES, ids=[f"{law.check.__module__}-{law.name}" for law, *_ in CASES])
def test_a_broken_law_is_found_and_told(law, subject, broken):
    tried = subject(broken)
    assert law.applies(tried)
    with pytest.raises(
        AssertionError, match=f"(?s)breaks {law.name}\n    law: .*\n    seen: .+\n    usually broken by: "
    ):
        law(tried)


def test_a_mean_of_means_is_found_where_an_offset_would_hide_it():
    subject = metrics.MetricSubject(broken_metrics.observing(update=broken_metrics.angles_by_batches)())
    with pytest.raises(AssertionError, match="breaks any_batch_size"):
        metrics.any_batch_size(subject)


def test_all_broken_laws_are_told_at_once():
    with pytest.raises(AssertionError, match=r"^2 of \d+ laws are broken") as caught:
        testing.check_perturbation(lambda model, x, y, *, generator: (x - x.mean(0)).abs().add_(0.9))
    assert "the_result_is_in_the_box" in str(caught.value) and "an_image_does_not_notice_its_batch" in str(caught.value)


def test_nothing_else_is_checked_where_there_is_no_result():
    with pytest.raises(AssertionError, match=r"^1 of 1 laws are broken"):
        testing.check_perturbation(lambda model, x, y, *, generator: None)


def test_a_bare_function_comes_under_fewer_laws():
    checked = testing.check_perturbation(lambda model, x, y, *, generator: 0.9 * x.detach())
    assert "settings_are_values" not in checked and "the_result_is_in_the_box" in checked

"""Defenses as text, and what cannot be one."""

import pytest

from netprobe.defenses import DEFENSES, TRADES, AdversarialTraining, defense_spec, describe_defense, parse_defense
from netprobe.errors import NetprobeError


@pytest.mark.parametrize("name", DEFENSES)
def test_a_name_alone_gives_the_papers_settings(name):
    assert parse_defense(name) == DEFENSES[name]()


@pytest.mark.parametrize(
    "defense", [AdversarialTraining(), AdversarialTraining(eps=0.3, steps=7, mode="train"), TRADES(beta=1, eps=4 / 255)]
)
def test_a_spec_reads_back_as_the_defense(defense):
    assert parse_defense(defense_spec(defense)) == defense


def test_the_defaults_are_those_of_the_papers():
    at, fast = parse_defense("pgd-at").attack(), parse_defense("fast").attack()
    assert (at.eps, at.steps, at.stride) == (8 / 255, 10, pytest.approx(2 / 255))
    assert (fast.eps, fast.steps, fast.stride) == (8 / 255, 1, pytest.approx(10 / 255))
    assert parse_defense("trades").beta == 6


def test_a_description_holds_every_setting():
    described = describe_defense(TRADES(beta=3))
    assert described["defense"] == "trades"
    assert described["beta"] == 3
    assert "class" not in described


def test_a_setting_that_was_added_later_is_described_where_it_is_not_the_default():
    """So that trainings from before there was one go on."""
    assert "reach" not in describe_defense(parse_defense("hah:blocks=2"))
    assert describe_defense(parse_defense("hah:blocks=2,reach=all"))["reach"] == "all"


@pytest.mark.parametrize(
    "spec, message",
    [
        ("pgdat", "did you mean 'pgd-at'"),
        ("pgd-at:epsilon=1", "did you mean 'eps'"),
        ("pgd-at:eps=-1", "must be a number in"),
        ("pgd-at:mode=both", "valid choices: eval, train|valid choices: train, eval"),
        ("trades:beta", "write setting=value"),
        (3, "is no defense"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(spec, message):
    with pytest.raises(NetprobeError, match=message):
        parse_defense(spec)


def test_none_is_a_choice_where_it_is_listed():
    assert parse_defense("hah:rule=none").rule == "none"
    assert parse_defense(defense_spec(parse_defense("hah:rule=none"))).rule == "none"

"""What the codes mean, against the table of the study written out."""

from __future__ import annotations

import pytest

from netprobe.errors import NetprobeError
from netprobe.training.partial import CODES, parse_code
from netprobe.training.partial.codes import parse_codes

# code: stage 1, frozen part, stage 2; and with 3 of 8 layers EARLY, how each layer ends up trained
TABLE = {
    "A1N2": ("adversarial", "early", "natural", "AAANNNNN"),
    "N1A2": ("natural", "early", "adversarial", "NNNAAAAA"),
    "A2N1": ("natural", "late", "adversarial", "AAANNNNN"),
    "N2A1": ("adversarial", "late", "natural", "NNNAAAAA"),
    "N1N2": ("natural", "early", "natural", "NNNNNNNN"),
    "A1A2": ("adversarial", "early", "adversarial", "AAAAAAAA"),
    "N2N1": ("natural", "late", "natural", "NNNNNNNN"),
    "A2A1": ("adversarial", "late", "adversarial", "AAAAAAAA"),
    "N2A1_l": ("adversarial", "rest", "natural", "AAANAAAA"),
    "A2N1_l": ("natural", "rest", "adversarial", "NNNANNNN"),
    "N2N1_l": ("natural", "rest", "natural", "NNNNNNNN"),
    "A2A1_l": ("adversarial", "rest", "adversarial", "AAAAAAAA"),
}


def test_there_are_these_codes():
    assert set(CODES) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_stages_and_parts(name):
    code, (stage1, frozen, stage2, letters) = parse_code(name), TABLE[name]
    assert (code.name, code.stage1, code.frozen, code.stage2) == (name, stage1, frozen, stage2)
    assert code.control == (stage1 == stage2) and code.single == name.endswith("_l")
    assert "".join("A" if at in code.adversarial(3, 8) else "N" for at in range(8)) == letters
    anew = {"early": range(3, 8), "late": range(3), "rest": range(3, 4)}[frozen]
    assert code.retrained(3, 8) == anew


def test_at_the_ends():
    assert list(parse_code("A1N2").retrained(0, 8)) == list(range(8))
    assert list(parse_code("A1N2").retrained(8, 8)) == list(parse_code("N2A1").retrained(0, 8)) == []
    assert list(parse_code("N2A1").retrained(8, 8)) == list(range(8))
    for name, cutoff, last in (("A1N2", 9, 8), ("A1N2", -1, 8), ("N2A1_l", 8, 7)):
        with pytest.raises(NetprobeError, match=rf"cutoff {cutoff} of {name} must be in 0\.\.{last}"):
            parse_code(name).retrained(cutoff, 8)


def test_a_code_says_what_it_does():
    assert str(parse_code("A2N1")) == (
        "A2N1: natural training, then the early layers are re-initialised and trained adversarially, the rest frozen"
    )


@pytest.mark.parametrize("wrong", ["A1N1", "A2N2", "a1n2", "A1", "B1N2", "A1N2_l", "", "A1N2 ", None, 3])
def test_no_such_code(wrong):
    with pytest.raises(NetprobeError, match=r"unknown code.*valid choices.*A adversarial"):
        parse_code(wrong)


def test_an_unknown_code_lists_all():
    with pytest.raises(NetprobeError) as error:
        parse_code("A1N3")
    assert all(name in str(error.value) for name in TABLE) and "did you mean 'A1N2'" in str(error.value)


def test_several_codes():
    names = [code.name for code in parse_codes("A1N2, N1A2 N2A1_l,")]
    assert names == ["A1N2", "N1A2", "N2A1_l"] == [c.name for c in parse_codes(names)]
    for wrong in ("", [], "A1N2,A1N2"):
        with pytest.raises(NetprobeError, match="name each code once"):
            parse_codes(wrong)

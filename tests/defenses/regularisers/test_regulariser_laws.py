"""Every enrolled regulariser keeps the laws of `netprobe.testing`, beside several defenses."""

from __future__ import annotations

import pytest

from netprobe.defenses.regularisers import REGULARISERS, parse_regulariser
from netprobe.testing.regularisers import LAWS, RegulariserSubject, the_term_joins_the_loss

SPECS = [
    "l2:coupling=1e-3",
    "jacobian:site=relu,coupling=1e-2,projections=2",
    "jacobian:site=output,coupling=1e-2",
    "spectral:site=relu,coupling=1e-2,tau=3,rows=pooled",
    "spectral-norm:coupling=1e-2",
    "similarity:count=40,pairs=8,threshold=none,coupling=0.3",
]
DEFENSES = ["natural", "pgd-at:eps=0.1,steps=2", "pgd-at:eps=0.1,steps=2,mode=train", "trades:eps=0.1,steps=2"]
SUBJECTS = {
    f"{spec} beside {defense}": RegulariserSubject(parse_regulariser(spec), defense)
    for spec in SPECS
    for defense in DEFENSES
}


def test_every_regulariser_is_among_those_tested_here():
    assert {spec.partition(":")[0] for spec in SPECS} == set(REGULARISERS.ours)


def law_cases():
    """All laws beside natural training; beside another defense that the term joins its loss, the others slowly."""
    for name, subject in SUBJECTS.items():
        for law in LAWS:
            slow = [pytest.mark.slow] if subject.defense != "natural" and law is not the_term_joins_the_loss else []
            yield pytest.param(subject, law, marks=slow, id=f"{name}-{law.name}")


@pytest.mark.parametrize("subject, law", list(law_cases()))
def test_every_regulariser_keeps_the_laws(subject, law):
    law(subject)

"""Defenses by name, and as text: "pgd-at:eps=8/255,steps=10"."""

from __future__ import annotations

from netprobe.defenses.adversarial import AdversarialTraining, FastAdversarialTraining
from netprobe.defenses.base import Defense
from netprobe.defenses.gaussian import GaussianAugmentation
from netprobe.defenses.hah.defense import HaHDefense
from netprobe.defenses.krotov_hopfield.defense import KrotovHopfieldDefense
from netprobe.defenses.natural import Natural
from netprobe.defenses.polarizing.defense import PixelQuantisation, PolarizingDefense
from netprobe.defenses.sca.defense import SCADefense
from netprobe.defenses.sparse_coding.defense import SparseCodingDefense
from netprobe.defenses.trades import TRADES
from netprobe.enrolled import Enrolled
from netprobe.specs import Catalogue

DEFENSES = Enrolled(
    "defense",
    Defense,
    (
        *(Natural, AdversarialTraining, FastAdversarialTraining, TRADES, GaussianAugmentation),
        *(PolarizingDefense, PixelQuantisation, SparseCodingDefense),
        *(HaHDefense, SCADefense, KrotovHopfieldDefense),
    ),
)


_KIND = Catalogue("defense", Defense, DEFENSES, "pgd-at:eps=8/255")


def parse_defense(spec: str | Defense) -> Defense:
    """The defense that a spec like "trades:eps=8/255,beta=6" names; a defense is returned as it is.

    >>> from netprobe import defenses
    >>> defenses.parse_defense("sparse-coding:top=15")
    SparseCodingDefense(top=15)
    >>> defenses.parse_defense("trades:eps=8/255,beta=4")
    TRADES(beta=4)
    """
    return _KIND.parse(spec)


def defense_spec(defense: Defense) -> str:
    """The shortest spec that `parse_defense` reads back as an equal defense: "pgd-at:steps=7"."""
    return _KIND.spec(defense)


def describe_defense(defense: Defense) -> dict[str, object]:
    """Its name and every setting, in JSON's terms; the class too, where it is none of ours."""
    return _KIND.describe(defense)

"""Defenses: how training with each differs from plain training, one file each."""

from netprobe.defenses.adversarial import AdversarialTraining, FastAdversarialTraining
from netprobe.defenses.base import Defense
from netprobe.defenses.gaussian import GaussianAugmentation
from netprobe.defenses.hah import HaHDefense
from netprobe.defenses.krotov_hopfield import KrotovHopfieldDefense
from netprobe.defenses.natural import Natural
from netprobe.defenses.polarizing import PixelQuantisation, PolarizingDefense
from netprobe.defenses.sca import SCADefense
from netprobe.defenses.sparse_coding import SparseCodingDefense
from netprobe.defenses.specs import DEFENSES, defense_spec, describe_defense, parse_defense
from netprobe.defenses.trades import TRADES

__all__ = [
    "DEFENSES",
    "TRADES",
    "AdversarialTraining",
    "Defense",
    "FastAdversarialTraining",
    "GaussianAugmentation",
    "HaHDefense",
    "KrotovHopfieldDefense",
    "Natural",
    "PixelQuantisation",
    "PolarizingDefense",
    "SCADefense",
    "SparseCodingDefense",
    "defense_spec",
    "describe_defense",
    "parse_defense",
]

"""Perturbations: callables p(model, x, y, *, generator) -> x'.

Ours are frozen dataclasses whose fields are the settings; a function of your own is as good. A new one is a
class in a file of its own and one entry in `specs.PERTURBATIONS`, or in the group "netprobe.perturbations" of the entry
points of a package of yours; parsing, the command line and the laws of `netprobe.testing` come with it.
"""

from netprobe.perturb.apgd import APGD, TargetedAPGD
from netprobe.perturb.attacked import Attacked
from netprobe.perturb.autoattack import AutoAttack
from netprobe.perturb.backward import BackwardPass
from netprobe.perturb.base import Perturbation
from netprobe.perturb.decision import Boundary, HopSkipJump
from netprobe.perturb.fab import FAB, TargetedFAB
from netprobe.perturb.geometry import GEOMETRIES, L1, L2, Box, Geometry, Linf
from netprobe.perturb.gradient import BIM, FGSM, PGD, GradientAttack
from netprobe.perturb.minimum_norm import FMN, CarliniWagner, DeepFool
from netprobe.perturb.noise import GaussianNoise, SaltAndPepper, UniformNoise
from netprobe.perturb.randomness import ImageGenerator
from netprobe.perturb.specs import (
    PERTURBATIONS,
    apply,
    describe,
    eps_of,
    family,
    parse,
    resolve,
    sweep,
    to_spec,
)
from netprobe.perturb.square import Square
from netprobe.perturb.transfer import Transfer
from netprobe.perturb.zoo import ZOO

__all__ = [
    "APGD",
    "BIM",
    "FAB",
    "FGSM",
    "FMN",
    "GEOMETRIES",
    "L1",
    "L2",
    "PERTURBATIONS",
    "PGD",
    "ZOO",
    "Attacked",
    "AutoAttack",
    "BackwardPass",
    "Boundary",
    "Box",
    "CarliniWagner",
    "DeepFool",
    "GaussianNoise",
    "Geometry",
    "GradientAttack",
    "HopSkipJump",
    "ImageGenerator",
    "Linf",
    "Perturbation",
    "SaltAndPepper",
    "Square",
    "TargetedAPGD",
    "TargetedFAB",
    "Transfer",
    "UniformNoise",
    "apply",
    "describe",
    "eps_of",
    "family",
    "parse",
    "resolve",
    "sweep",
    "to_spec",
]

"""Regularisers: terms that join the loss of any defense, one file each.

base.py      what they all are: settings, and the penalty that they make for a network
watching.py  which forward pass of a defense's loss they see
closed.py    Jacobians in closed form
similarity/  the similarity regulariser, with images and pairs of its own
specs.py     their names
"""

from netprobe.defenses.regularisers.base import Penalty, Regulariser, Step, Subject
from netprobe.defenses.regularisers.jacobian import Jacobian
from netprobe.defenses.regularisers.l2 import L2
from netprobe.defenses.regularisers.similarity.regulariser import Similarity
from netprobe.defenses.regularisers.specs import (
    REGULARISERS,
    describe_regulariser,
    parse_regulariser,
    regulariser_spec,
)
from netprobe.defenses.regularisers.spectral import Spectral
from netprobe.defenses.regularisers.spectral_norm import SpectralNorm

__all__ = [
    "L2",
    "REGULARISERS",
    "Jacobian",
    "Penalty",
    "Regulariser",
    "Similarity",
    "Spectral",
    "SpectralNorm",
    "Step",
    "Subject",
    "describe_regulariser",
    "parse_regulariser",
    "regulariser_spec",
]

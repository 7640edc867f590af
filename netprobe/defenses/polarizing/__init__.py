"""The polarizing front end: filters trained so that their outputs keep away from the thresholds of a quantiser."""

from netprobe.defenses.polarizing.bumps import Bumps, bumps
from netprobe.defenses.polarizing.curves import quantiser_curves
from netprobe.defenses.polarizing.defense import PixelQuantisation, PolarizingDefense
from netprobe.defenses.polarizing.layers import PixelQuantiser, PolarizingFrontEnd
from netprobe.defenses.polarizing.polarization import polarization

__all__ = [
    "Bumps",
    "PixelQuantisation",
    "PixelQuantiser",
    "PolarizingDefense",
    "PolarizingFrontEnd",
    "bumps",
    "polarization",
    "quantiser_curves",
]

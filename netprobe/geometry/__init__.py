"""Smoothness and geometry of what networks compute: Jacobians, distances to errors, planes, spectra, dimensions."""

from netprobe.geometry.analysis import analyse
from netprobe.geometry.comparing import compare_distances
from netprobe.geometry.dimension import intrinsic_dimension
from netprobe.geometry.distances import critical_distances
from netprobe.geometry.jacobians import jacobian_norms
from netprobe.geometry.planes import decision_plane
from netprobe.geometry.spectra import unit_spectra

__all__ = [
    "analyse",
    "compare_distances",
    "critical_distances",
    "decision_plane",
    "intrinsic_dimension",
    "jacobian_norms",
    "unit_spectra",
]

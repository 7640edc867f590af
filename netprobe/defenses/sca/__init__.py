"""Self-consistent activations: a layer whose units settle on what the other units of the layer predict of them."""

from netprobe.defenses.sca.bound import curvature
from netprobe.defenses.sca.conversion import convert, self_consistent
from netprobe.defenses.sca.defense import SCADefense
from netprobe.defenses.sca.layers import SCAConv2d, SCALinear, SelfConsistent
from netprobe.defenses.sca.settling import settling
from netprobe.defenses.sca.sweeping import accuracy_by_steps
from netprobe.defenses.sca.views import activation_planes, lateral_map

__all__ = [
    "SCAConv2d",
    "SCADefense",
    "SCALinear",
    "SelfConsistent",
    "accuracy_by_steps",
    "activation_planes",
    "convert",
    "curvature",
    "lateral_map",
    "self_consistent",
    "settling",
]

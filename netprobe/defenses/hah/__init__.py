"""Hebbian / anti-Hebbian blocks: filters of unit norm, divisive normalisation, adaptive thresholds, and their loss."""

from netprobe.defenses.hah.blocks import HaHBlock, StandardBlock, hebbian_responses
from netprobe.defenses.hah.converting import convert
from netprobe.defenses.hah.convolution import NormalizedConv2d, Response, rectified_response
from netprobe.defenses.hah.defense import HaHDefense
from netprobe.defenses.hah.divisive import DivisiveNorm
from netprobe.defenses.hah.finding import Group, find_groups
from netprobe.defenses.hah.firing import firing
from netprobe.defenses.hah.threshold import AdaptiveThreshold

__all__ = [
    "AdaptiveThreshold",
    "DivisiveNorm",
    "Group",
    "HaHBlock",
    "HaHDefense",
    "NormalizedConv2d",
    "Response",
    "StandardBlock",
    "convert",
    "find_groups",
    "firing",
    "hebbian_responses",
    "rectified_response",
]

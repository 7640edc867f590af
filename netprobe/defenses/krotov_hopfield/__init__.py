"""Layers learnt by the local rule of Krotov and Hopfield: prototypes without labels, pruned and frozen."""

from netprobe.defenses.krotov_hopfield.budgets import scaled_eps
from netprobe.defenses.krotov_hopfield.conversion import convert, local_layer
from netprobe.defenses.krotov_hopfield.defense import KrotovHopfieldDefense
from netprobe.defenses.krotov_hopfield.layers import Local, LocalConv2d, LocalLinear
from netprobe.defenses.krotov_hopfield.learning import Attempt, Learnt, LocalLearning, learn, start
from netprobe.defenses.krotov_hopfield.prototypes import prototypes, unpruned
from netprobe.defenses.krotov_hopfield.pruning import Pruned, prune
from netprobe.defenses.krotov_hopfield.rule import Learner, LocalRule, change, signed_power
from netprobe.defenses.krotov_hopfield.samples import layer_samples

__all__ = [
    "Attempt",
    "KrotovHopfieldDefense",
    "Learner",
    "Learnt",
    "Local",
    "LocalConv2d",
    "LocalLearning",
    "LocalLinear",
    "LocalRule",
    "Pruned",
    "change",
    "convert",
    "layer_samples",
    "learn",
    "local_layer",
    "prototypes",
    "prune",
    "scaled_eps",
    "signed_power",
    "start",
    "unpruned",
]

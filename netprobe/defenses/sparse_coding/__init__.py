"""The sparse coding front end: patches as a few quantised coefficients over a learnt dictionary, and a decoder."""

from netprobe.defenses.sparse_coding.code import Code
from netprobe.defenses.sparse_coding.correlations import patch_correlations
from netprobe.defenses.sparse_coding.decoder import Decoder
from netprobe.defenses.sparse_coding.defense import SparseCodingDefense
from netprobe.defenses.sparse_coding.dictionary import learn_dictionary
from netprobe.defenses.sparse_coding.encoder import Encoder
from netprobe.defenses.sparse_coding.front_end import SparseCoding
from netprobe.defenses.sparse_coding.views import code_steps, dictionary_atoms, surrogate_curves

__all__ = [
    "Code",
    "Decoder",
    "Encoder",
    "SparseCoding",
    "SparseCodingDefense",
    "code_steps",
    "dictionary_atoms",
    "learn_dictionary",
    "patch_correlations",
    "surrogate_curves",
]

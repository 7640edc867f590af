"""Partial adversarial training: which layers must be trained adversarially for a network to be robust.

codes.py       A1N2, N1A2, A2N1, N2A1, controls and single layers
layers.py      the layers of a model in one line, and cutoffs between them
splitting.py   freeze one part, re-initialise the other
measuring.py   what a trained network is worth
units.py       whole networks and cells, the units of work
claims.py      who computes what, among several processes
records.py     results of finished units, a file each
study.py       what units share; one of them computed and kept
dataset.py     results as a labelled Dataset
planning.py    the grid that is asked for, checked
sweeping.py    `sweep`: the whole grid
"""

from netprobe.training.partial.codes import CODES, Code, parse_code
from netprobe.training.partial.layers import list_layers
from netprobe.training.partial.splitting import Split, split
from netprobe.training.partial.sweeping import Interrupted, sweep

__all__ = ["CODES", "Code", "Interrupted", "Split", "list_layers", "parse_code", "split", "sweep"]

"""Partial adversarial training: which layers must be trained adversarially for a network to be robust.

codes.py       A1N2, N1A2, A2N1, N2A1, controls and single layers
layers.py      the layers of a model in one line, and cutoffs between them
splitting.py   freeze one part, re-initialise the other
"""

from netprobe.training.partial.codes import CODES, Code, parse_code
from netprobe.training.partial.layers import list_layers
from netprobe.training.partial.splitting import Split, split

__all__ = ["CODES", "Code", "Split", "list_layers", "parse_code", "split"]

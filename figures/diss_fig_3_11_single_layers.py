"""Fig. 3.11 of Bakiskan (2022): adversarial accuracy lost by training a single layer of an adversarial network
naturally.

The work: much more for early layers than for late ones, about linearly in depth. Drawn is the difference from the whole
network.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.depth import Depth

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Depth) -> Axes:
    return npb.plot_partial_layers(study.both("layers"), codes=["N2A1_l"])


FIGURE = Figure(__file__, __doc__, Depth, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 5.4 of Bakiskan (2022): squared Hoyer ratio of the activations of each block.

The work: HaH blocks are sparser.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.hah import HaH

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: HaH) -> Axes:
    return npb.plot_sparsity(study.probe())


FIGURE = Figure(__file__, __doc__, HaH, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 3.8 of Bakiskan (2022): adversarial accuracy where early layers stay natural and late ones are trained
adversarially.

The work: with many natural layers training collapses to guessing; crosses mark such networks.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.depth import Depth

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Depth) -> Axes:
    return npb.plot_partial_curves(study.both("partial"), quantity="adversarial_accuracy", codes=["N1A2"])


FIGURE = Figure(__file__, __doc__, Depth, draw)

if __name__ == "__main__":
    run_script(FIGURE)

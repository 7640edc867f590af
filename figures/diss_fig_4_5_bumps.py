"""Fig. 4.5 of Bakiskan (2022): the quantiser, and the bumps that push filter outputs away from it in training."""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.polarizing import Polarizing

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Polarizing) -> Axes:
    return npb.plot_polarizing_bumps(study.bumps())


FIGURE = Figure(__file__, __doc__, Polarizing, draw)

if __name__ == "__main__":
    run_script(FIGURE)

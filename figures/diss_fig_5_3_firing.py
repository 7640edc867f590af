"""Fig. 5.3 of Bakiskan (2022): how often each channel is among the strongest, layer by layer.

Channels that fire everywhere tell nothing of the image; the work shows them of a network whose
loss reaches other layers.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.hah import HaH

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: HaH) -> Axes:
    return npb.plot_firing(study.fires())


FIGURE = Figure(__file__, __doc__, HaH, draw)

if __name__ == "__main__":
    run_script(FIGURE)

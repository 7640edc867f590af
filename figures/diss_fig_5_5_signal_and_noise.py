"""Fig. 5.5 of Bakiskan (2022): signal and noise of an image at the inputs of blocks, which their ratio is made of.

A drawing in the work; here both are norms over channels at every place of the layers of trained networks.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.hah import PAIR, HaH

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: HaH) -> dict[str, Axes]:
    return {name: npb.plot_signal_maps(study.maps(name)) for name in PAIR}


FIGURE = Figure(__file__, __doc__, HaH, draw)

if __name__ == "__main__":
    run_script(FIGURE)

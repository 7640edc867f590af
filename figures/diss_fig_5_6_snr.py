"""Fig. 5.6 of Bakiskan (2022): signal-to-noise ratio at the input of each block, Gaussian noise of σ = 0.1.

The work: well above standard blocks.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.hah import HaH

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: HaH) -> Axes:
    return npb.plot_snr(study.probe())


FIGURE = Figure(__file__, __doc__, HaH, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 4.13 of Bakiskan (2022): accuracy over eps of the front end without dropout, steps of eps / 8.

The work's public code has at eps times 255 of 0, 4, 8, 16, 24, 32, 40, 48, 56, 64, 128: 81.8, 61.6, 44.8, 31.2, 23.7,
18.2, 13.7, 10.7, 8.2, 6.3, 1.3 % (of T = 1).
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.sparse_coding import SparseCoding

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: SparseCoding) -> Axes:
    return npb.plot_robustness_curve(study.curve())


FIGURE = Figure(__file__, __doc__, SparseCoding, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 5.10 of Bakiskan (2022): accuracy by the number of HaH blocks, clean, under noise and attacked.

The work: every block raises accuracy under noise and attacks and lowers it a little when clean.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.hah import HaH

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: HaH) -> Axes:
    return npb.plot_accuracy_by_setting(study.blocks(), "blocks", called="number of HaH blocks")


FIGURE = Figure(__file__, __doc__, HaH, draw)

if __name__ == "__main__":
    run_script(FIGURE)

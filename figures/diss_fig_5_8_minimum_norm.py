"""Fig. 5.8 of Bakiskan (2022): mean norms of the smallest perturbations that FMN finds.

The work: larger with HaH blocks in every norm.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.hah import HaH

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: HaH) -> Axes:
    return npb.plot_minimum_norm(study.minimum_norm())


FIGURE = Figure(__file__, __doc__, HaH, draw)

if __name__ == "__main__":
    run_script(FIGURE)

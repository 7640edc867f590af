"""Fig. 4.6 of Bakiskan (2022): the filters of the polarizing front end after training."""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.polarizing import Polarizing

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Polarizing) -> dict[str, Axes]:
    return {data: npb.plot_front_end_filters(study.stages(data)) for data in study.sets}


FIGURE = Figure(__file__, __doc__, Polarizing, draw)

if __name__ == "__main__":
    run_script(FIGURE)

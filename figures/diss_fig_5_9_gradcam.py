"""Fig. 5.9 of Bakiskan (2022): Grad-CAM at the first block, with the signs that the work leaves out."""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.hah import HaH

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: HaH) -> Axes:
    return npb.plot_gradcam(study.gradcam())


FIGURE = Figure(__file__, __doc__, HaH, draw)

if __name__ == "__main__":
    run_script(FIGURE)

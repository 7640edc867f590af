"""Training curves of arXiv 2405.00679: loss, accuracy and regularisers over epochs, of networks trained end to end."""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.krotov_hopfield import Smoothness

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Smoothness) -> Axes:
    return npb.plot_training_terms(study.history())


FIGURE = Figure(__file__, __doc__, Smoothness, draw)

if __name__ == "__main__":
    run_script(FIGURE)

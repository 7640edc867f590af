"""Robustness of arXiv 2405.00679: relative accuracy over eps, and the least distance to an error, of five networks.

Along random directions, by FGSM and by PGD. Larger is more robust.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.krotov_hopfield import Smoothness

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Smoothness) -> dict[str, Axes]:
    distances = study.distances()
    return {"accuracy": npb.plot_relative_accuracy(distances), "distances": npb.plot_critical_distances(distances)}


FIGURE = Figure(__file__, __doc__, Smoothness, draw)

if __name__ == "__main__":
    run_script(FIGURE)

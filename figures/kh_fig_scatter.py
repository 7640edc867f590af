"""Accuracy and distance of arXiv 2405.00679: clean accuracy against the median distance to an error.

A point a network, along random directions and by PGD. Up and to the right is better.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.krotov_hopfield import Smoothness

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Smoothness) -> dict[str, Axes]:
    distances = study.distances()
    return {walk: npb.plot_distance_scatter(distances, walk=walk) for walk in ("random", "pgd")}


FIGURE = Figure(__file__, __doc__, Smoothness, draw)

if __name__ == "__main__":
    run_script(FIGURE)

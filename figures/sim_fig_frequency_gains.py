"""Gains by frequency of arXiv 2410.03952: accuracy gained under each corruption, by its spatial frequency.

The work: most under corruptions of high frequency.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import Similarity

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Similarity) -> Axes:
    return npb.plot_frequency_gains(study.gains())


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

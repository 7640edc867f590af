"""Spectra of arXiv 2405.00679: eigenvalues of the pre-activations under images and under noise, of KH and untrained.

The first panels are those of the images and of the noise themselves. The work prints exponents of 2.67 and 1.29 for KH,
1.53 and 0.11 untrained, 1.47 and 0.05 for what goes in.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.krotov_hopfield import Smoothness

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Smoothness) -> Axes:
    return npb.plot_unit_spectra(study.compared_units(["untrained", "KH"]))


FIGURE = Figure(__file__, __doc__, Smoothness, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Spectra compared of arXiv 2405.00679: eigenvalues of the pre-activations of all five networks.

The work has exponents under images and noise of 2.67, 1.29 (KH), 2.92, 0.97 (BP), 4.11, 2.46 (L2), 3.54, 1.42 (JReg).
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.krotov_hopfield import Smoothness

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Smoothness) -> Axes:
    return npb.plot_unit_spectra(study.compared_units())


FIGURE = Figure(__file__, __doc__, Smoothness, draw)

if __name__ == "__main__":
    run_script(FIGURE)

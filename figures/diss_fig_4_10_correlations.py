"""Fig. 4.10 of Bakiskan (2022): correlations of one patch with atoms and with the first filters of a standard
network.

The work: of filters they gather at 0, of atoms not; the curve without the patch's mean shows how much is brightness.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.sparse_coding import SparseCoding

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: SparseCoding) -> Axes:
    return npb.plot_patch_correlations(study.correlations())


FIGURE = Figure(__file__, __doc__, SparseCoding, draw)

if __name__ == "__main__":
    run_script(FIGURE)

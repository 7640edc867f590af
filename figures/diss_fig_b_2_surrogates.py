"""Fig. B.2 of Bakiskan (2022): the quantiser of the sparse code and its smooth surrogates."""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.sparse_coding import SparseCoding

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: SparseCoding) -> Axes:
    return npb.plot_quantiser_surrogates(study.surrogates())


FIGURE = Figure(__file__, __doc__, SparseCoding, draw)

if __name__ == "__main__":
    run_script(FIGURE)

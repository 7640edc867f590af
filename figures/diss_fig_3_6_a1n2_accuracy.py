"""Fig. 3.6 of Bakiskan (2022): adversarial accuracy by how many early layers are trained adversarially and kept.

The late layers are drawn anew and trained naturally on top.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.depth import Depth

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Depth) -> Axes:
    return npb.plot_partial_curves(study.both("partial"), quantity="adversarial_accuracy", codes=["A1N2"])


FIGURE = Figure(__file__, __doc__, Depth, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 3.17 of Bakiskan (2022): shifts β of the channels of every batch-norm layer.

The text has one statistic a figure; which is in which of 3.14 to 3.17 is our reading.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.depth import Depth

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Depth) -> dict[str, Axes]:
    return {role: npb.plot_batch_norm(study.weights(role), quantity="beta") for role in study.roles}


FIGURE = Figure(__file__, __doc__, Depth, draw)

if __name__ == "__main__":
    run_script(FIGURE)

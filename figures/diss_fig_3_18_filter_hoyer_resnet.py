"""Fig. 3.18 of Bakiskan (2022): squared Hoyer ratio of the filters of every layer, ResNet.

The work: the first layer is clearly sparser after adversarial training, others overlap.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.depth import Depth

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Depth) -> Axes:
    return npb.plot_filter_hoyer(study.weights("sgd"))


FIGURE = Figure(__file__, __doc__, Depth, draw)

if __name__ == "__main__":
    run_script(FIGURE)

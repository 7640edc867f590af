"""Fig. 3.20 of Bakiskan (2022): singular values of the first, middle and last convolutions, ResNet, SGD.

Of the periodic convolution, over the largest. The work: adversarial training gives most layers a slightly fatter tail.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.depth import Depth

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Depth) -> Axes:
    return npb.plot_singular_values(study.weights("sgd"))


FIGURE = Figure(__file__, __doc__, Depth, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 3 of arXiv 2308.03956: shift of the correlations between samples in the last hidden layer, over eps.

Of networks trained on clean images, and of the perceptron trained adversarially. The work: smaller with the layer.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.sca import SelfConsistency

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: SelfConsistency) -> Axes:
    return npb.plot_correlation_shift(study.correlation())


FIGURE = Figure(__file__, __doc__, SelfConsistency, draw)

if __name__ == "__main__":
    run_script(FIGURE)

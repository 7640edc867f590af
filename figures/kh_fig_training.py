"""Training curves of arXiv 2405.00679: loss, accuracy and Jacobians of test images over epochs; terms of the loss.

The first file has test images after some of the epochs, the second what was minimised, means over each epoch of the
first training. KH has the epochs of its read-out: its units stay as they were learnt before, and so do their Jacobians.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.krotov_hopfield import Smoothness

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Smoothness) -> dict[str, Axes]:
    return {"test": npb.plot_followed(study.training()), "terms": npb.plot_training_terms(study.history())}


FIGURE = Figure(__file__, __doc__, Smoothness, draw)

if __name__ == "__main__":
    run_script(FIGURE)

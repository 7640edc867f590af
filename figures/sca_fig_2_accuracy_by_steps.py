"""Fig. 2 of arXiv 2308.03956: accuracy over the number of steps T, clean and perturbed.

A network for each T, trained and read with it. The work: robustness rises once T passes 8, clean accuracy stays.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.sca import SelfConsistency

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: SelfConsistency) -> Axes:
    return npb.plot_accuracy_by_steps(study.by_steps())


FIGURE = Figure(__file__, __doc__, SelfConsistency, draw)

if __name__ == "__main__":
    run_script(FIGURE)

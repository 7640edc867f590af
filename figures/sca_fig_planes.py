"""Activations step by step of arXiv 2308.03956: images in the plane of largest variance of all steps together, by
class.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.sca import SelfConsistency

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: SelfConsistency) -> Axes:
    return npb.plot_activation_planes(study.planes())


FIGURE = Figure(__file__, __doc__, SelfConsistency, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Distribution of the changes of correlations of arXiv 2308.03956: of how many pairs each correlation moves by how
much.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.sca import SelfConsistency

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: SelfConsistency) -> Axes:
    return npb.plot_correlation_change(study.correlation(), perturbation=f"apgd@{study.middle:g}")


FIGURE = Figure(__file__, __doc__, SelfConsistency, draw)

if __name__ == "__main__":
    run_script(FIGURE)

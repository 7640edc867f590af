"""Fig. 2 (distances) of arXiv 2410.03952: median squared distances that the Boundary attack finds.

The work takes 50 steps, which tell little but of the start; many steps are beside them.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import Similarity

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Similarity) -> Axes:
    return npb.plot_boundary_distance(study.boundary(study.first))


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

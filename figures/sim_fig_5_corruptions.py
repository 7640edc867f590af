"""Fig. 5 of arXiv 2410.03952: accuracy under common corruptions over severity, and of each at severity 4."""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import Similarity

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Similarity) -> dict[str, Axes]:
    each = npb.plot_corruption_accuracy(study.each_corruption(), severity=4)
    return {"severity": npb.plot_severity_curve(study.corrupted()), "each": each}


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 2 (targets) of arXiv 2410.03952: robustness by what similarity is drawn to, S^Th or S^pixel, images of ImageNet.

The work has the similarities of a model of mouse V1 beside them, whose recordings are not ours to use. Means over
trainings with t intervals, where the work has standard errors.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import TARGETS, Similarity
from variants import robustness

from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Similarity) -> dict[str, Axes]:
    return robustness(study, TARGETS)


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 4 of arXiv 2410.03952: robustness by the set whose colour images similarity is regularised on.

As Fig. 3, with networks for colour images; similarities of pixels are of grey ones here too. The caption is what is
known of the figure.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import COLOUR, Similarity
from variants import robustness

from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Similarity) -> dict[str, Axes]:
    return robustness(study, COLOUR)


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 3 of arXiv 2410.03952: robustness by the set whose grey images similarity is regularised on.

CIFAR-10, CIFAR-100 or ImageNet, the coupling and threshold of all being the same. The caption is what is known of the
figure: Gaussian noise, FGSM from another network and the Boundary attack are those of Fig. 2. Of the Boundary attack it
says median L2, and here the squares are shown, as in Fig. 2.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import IMAGES, Similarity
from variants import robustness

from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Similarity) -> dict[str, Axes]:
    return robustness(study, IMAGES)


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 1 of arXiv 2410.03952: how alike images are in their pixels, and in the layers of networks.

The work compares pixels with a model of mouse V1, r = 0.83; without recordings we compare them with layers.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import Similarity

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Similarity) -> dict[str, Axes]:
    return {
        "matrices": npb.plot_similarity_matrices(study.matrices()),
        "joint": npb.plot_similarity_joint(study.rsa()),
        "layers": npb.plot_rsa(study.rsa()),
    }


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

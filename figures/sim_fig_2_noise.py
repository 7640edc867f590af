"""Fig. 2 of arXiv 2410.03952: accuracy over the strength of noises and of FGSM from another network.

Means over trainings with t intervals. Figs. 3 and 4 are the same of other data.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import Similarity

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure
from netprobe.plots.robustness_curve import swept_bases


def draw(study: Similarity) -> dict[str, Axes]:
    noise = study.black_box(study.first)
    data = noise["plain/evaluation"].to_dataset()
    return {base: npb.plot_robustness_curve(noise, perturbation=base) for base in swept_bases(data)}


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""Fig. 3.12 of Bakiskan (2022): distributions of the perturbation-to-signal ratio over images, layer by layer.

At the outputs of convolutions, under the network's own PGD.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.depth import Depth

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Depth) -> dict[str, Axes]:
    return {role: npb.plot_psr_ridge(study.probe(role)) for role in study.roles}


FIGURE = Figure(__file__, __doc__, Depth, draw)

if __name__ == "__main__":
    run_script(FIGURE)

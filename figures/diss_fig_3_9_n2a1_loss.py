"""Fig. 3.9 of Bakiskan (2022): adversarial loss where late layers stay adversarial and early ones are trained
naturally.

The work: towards that of the natural network as more layers are, for VGG not monotonously.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.depth import Depth

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Depth) -> Axes:
    return npb.plot_partial_curves(study.both("partial"), quantity="adversarial_loss", codes=["N2A1"])


FIGURE = Figure(__file__, __doc__, Depth, draw)

if __name__ == "__main__":
    run_script(FIGURE)

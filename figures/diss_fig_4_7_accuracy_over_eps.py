"""Fig. 4.7 of Bakiskan (2022): accuracy over eps under BIM and under PGD, steps of eps / 10.

Pixels, quantised without filters, is the control; the work does not have it.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.polarizing import Polarizing

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Polarizing) -> dict[str, Axes]:
    curves = study.curves(study.sets[0])
    return {attack: npb.plot_robustness_curve(curves, perturbation=attack) for attack in ("bim", "pgd")}


FIGURE = Figure(__file__, __doc__, Polarizing, draw)

if __name__ == "__main__":
    run_script(FIGURE)

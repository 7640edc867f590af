"""Minimal perturbations of arXiv 2410.03952: their spatial frequencies, with the regulariser and without.

The work: more low frequencies with it. A few hundred steps of the attack leave noise in them.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from studies.similarity import Similarity

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Similarity) -> dict[str, Axes]:
    spectra = study.spectra()
    return {"profile": npb.plot_perturbation_spectrum(spectra), "maps": npb.plot_spectrum_maps(spectra)}


FIGURE = Figure(__file__, __doc__, Similarity, draw)

if __name__ == "__main__":
    run_script(FIGURE)

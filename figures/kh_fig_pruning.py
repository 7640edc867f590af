"""Pruning of arXiv 2405.00679: units before and after, the variances that tell which stay, and the spectra."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from studies.krotov_hopfield import Smoothness

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Smoothness) -> dict[str, Axes]:
    kept = study.units("KH")
    spectra = {"/all units/units": study.unpruned(), "/pruned/units": kept}
    return {
        "units": npb.plot_prototypes(study.prototypes()),
        "variances": npb.plot_pruning(study.prototypes()),
        "spectra": npb.plot_unit_spectra(xr.DataTree.from_dict(spectra)),
    }


FIGURE = Figure(__file__, __doc__, Smoothness, draw)

if __name__ == "__main__":
    run_script(FIGURE)

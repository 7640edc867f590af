"""Landscapes of arXiv 2405.00679: norm of the Jacobian and decisions on a plane through one image."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from studies.krotov_hopfield import Smoothness

import netprobe as npb
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure


def draw(study: Smoothness) -> Axes:
    planes = {f"/{name}/plane": study.plane(name) for name in study.networks}
    return npb.plot_decision_plane(xr.DataTree.from_dict(planes))


FIGURE = Figure(__file__, __doc__, Smoothness, draw)

if __name__ == "__main__":
    run_script(FIGURE)

"""A folder of results: the netCDF file, every figure that the results allow, and the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import xarray as xr

from netprobe.plots import save
from netprobe.plots.reading import models_with
from netprobe.reporting import report
from netprobe.reporting.sections import SECTIONS
from netprobe.store import save_results

RESULTS, REPORT, FIGURES = "results.nc", "report.html", "figures"


def write(tree: xr.DataTree, folder: str | Path) -> Path:
    """Write `results.nc`, `figures/*.svg` and `report.html` into `folder`. Returns the folder."""
    save_results(tree, Path(folder) / RESULTS)
    draw(tree, folder)
    return Path(folder)


def draw(tree: xr.DataTree, folder: str | Path) -> Path:
    """Write `figures/*.svg` and `report.html` into `folder`, which holds `results.nc`. Returns the page's path."""
    figures = Path(folder) / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    for name, plot in _plots(tree):
        axes = plot()
        save(axes, figures / f"{name}.svg")
        plt.close(axes.figure)
    return report(tree, Path(folder) / REPORT, complete=Path(folder) / RESULTS)


def _plots(tree: xr.DataTree) -> Iterator[tuple[str, partial]]:
    """The plots of the report, each with a name for its file."""
    for section in SECTIONS:
        models = models_with(tree, section.metric)
        for figure in section.figures(tree, models) if models else ():
            yield _file_name(figure.draw, models), figure.draw


def _file_name(plot: partial, models: list[str]) -> str:
    """The plot's name and what sets it apart: "psr-pgd", "spectrum-channel", "psr_ridge-natural"."""
    drawn = plot.keywords.get("models", models)
    apart = [plot.keywords.get(key) for key in ("perturbation", "definition", "quantity", "along", "condition")] + (
        drawn if drawn != models else []
    )
    name = "-".join([plot.func.__name__.removeprefix("plot_"), *filter(None, apart)])
    return re.sub(r"[^\w.@-]+", "_", name)

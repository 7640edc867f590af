"""A folder of results: the netCDF file, every figure that the results allow, and the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from netprobe.store import save_results

RESULTS, REPORT, FIGURES = "results.nc", "report.html", "figures"


def write(tree: xr.DataTree, folder: str | Path) -> Path:
    """Write `results.nc`, `figures/*.svg` and `report.html` into `folder`. Returns the folder."""
    folder = Path(folder)
    save_results(tree, folder / RESULTS)
    write_figures(tree, folder / FIGURES)
    write_report(tree, folder)
    return folder


def write_report(tree: xr.DataTree, folder: str | Path) -> Path:
    """Write `report.html` into `folder`, naming the `results.nc` beside it. Returns the page's path."""
    from netprobe.reporting import report

    return report(tree, Path(folder) / REPORT, complete=Path(folder) / RESULTS)


def write_figures(tree: xr.DataTree, folder: str | Path) -> list[Path]:
    """Write every plot whose metric is in `tree`, as SVG. Returns the paths."""
    from netprobe.plots import save

    Path(folder).mkdir(parents=True, exist_ok=True)
    return [save(drawn, Path(folder) / f"{name}.svg") for name, drawn in _drawn(tree)]


def _drawn(tree: xr.DataTree) -> Iterator[tuple]:
    from netprobe import plots

    metrics = {metric for model in tree.children.values() for metric in model.children}
    plots_of = {
        "accuracy": ("plot_accuracy",),
        "psr": ("plot_psr", "plot_psr_ridge"),
        "snr": ("plot_snr",),
        "hoyer": ("plot_sparsity",),
        "spectrum": ("plot_spectrum", "plot_alpha"),
        "correlation": ("plot_correlation_shift",),
        "cka": ("plot_cka",),
        "gradcam": ("plot_gradcam",),
    }
    for metric, names in plots_of.items():
        if metric in metrics:
            yield from ((name.removeprefix("plot_"), getattr(plots, name)(tree)) for name in names)

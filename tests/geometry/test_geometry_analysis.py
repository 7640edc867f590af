"""All analyses together: the tree, its report, the command line, and the plots of it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from synthetic_geometry import SETTINGS, geometry

from netprobe import data, plots
from netprobe.cli import main
from netprobe.errors import NetprobeError
from netprobe.geometry import analyse, critical_distances, intrinsic_dimension, jacobian_norms, unit_spectra
from netprobe.models import mlp
from netprobe.reporting.verdict import verdict
from netprobe.store import open_results

PLOTS = {
    "plot_critical_distances": "distances",
    "plot_decision_plane": "plane",
    "plot_distance_scatter": "distances",
    "plot_jacobian_norms": "jacobian",
    "plot_relative_accuracy": "distances",
    "plot_unit_spectra": "units",
}
every_plot = pytest.mark.parametrize("name", PLOTS)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    groups = {f"/{model}/{name}": d for model in ("one", "other") for name, d in geometry().items()}
    return xr.DataTree.from_dict(groups)


def test_the_tree_holds_what_the_functions_give():
    images, model = data.load("digits", limit=30), mlp(hidden=5).eval()
    found = analyse({"m": model}, images, **(SETTINGS | {"analyses": "jacobian,distances,units,dimension"}))["m"]
    assert set(found.children) == {"jacobian", "distances", "units"}
    jacobian = jacobian_norms(model, images, progress=False)
    np.testing.assert_allclose(found["jacobian"]["frobenius"], jacobian["frobenius"])
    grids = {"random": np.geomspace(1e-2, 20, 6), "fgsm": np.geomspace(1e-4, 1, 6)}
    distances = critical_distances(model, images, ["random", "fgsm"], eps=grids, progress=False)
    np.testing.assert_allclose(found["distances"]["distance"], distances["distance"])
    units = unit_spectra(model, images, progress=False)
    np.testing.assert_allclose(found["units"]["eigenvalues"], units["eigenvalues"])
    np.testing.assert_allclose(found["units"]["alpha_bound"], intrinsic_dimension(images)["alpha_bound"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"analyses": "jacobians"}, "did you mean 'jacobian'"),
        ({"points": 1}, "give at least 2"),
        ({"pionts": 3}, "did you mean 'points'"),
        ({"walks": "pgdd"}, "did you mean 'pgd'"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(NetprobeError, match=message):
        analyse(mlp(hidden=4), data.load("digits", limit=30), **settings)


def test_the_command_writes_results_figures_and_a_report(tmp_path):
    few = {"data": "digits", "limit": 30, "points": 4, "plane-points": 3, "analyses": "jacobian,distances,plane"}
    flags = [part for name, value in few.items() for part in (f"--{name}", str(value))]
    models = ["a=mlp,hidden=6", "b=mlp,hidden=6"]
    done = CliRunner().invoke(main, ["geometry", *models, *flags, "--no-progress", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "Median critical distance, pgd, L2" in done.output
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "critical_distances.svg",
        "decision_plane.svg",
        "distance_scatter.svg",
        "jacobian_norms-frobenius.svg",
        "jacobian_norms-operator.svg",
        "relative_accuracy.svg",
    }
    assert set(open_results(tmp_path / "results.nc")["a"].children) == {"jacobian", "distances", "plane"}
    page = (tmp_path / "report.html").read_text()
    assert "Critical distances" in page
    assert "Not shown" not in page


def test_the_verdict_has_the_medians(tree):
    rows = {row.quantity: row for row in verdict(tree).rows}
    assert rows["Median critical distance, fgsm, L2"].estimates["one"].value == float(
        tree["one"]["distances"]["median"].sel(walk="fgsm")
    )
    assert "Mean norm of the Jacobian at linear" in rows


@every_plot
def test_plots_draw_trees_nodes_and_datasets(name, tree, tmp_path):
    plot = getattr(plots, name)
    _, ax = plt.subplots()
    assert plot(tree, ax=ax) is ax
    first, second = (plots.save(plot(tree), tmp_path / f"{copy}.svg").read_text() for copy in "ab")
    assert first == second
    assert "one" in first
    assert "other" in first
    plot(tree["one"])
    plot(tree["one"][PLOTS[name]].to_dataset()).figure.draw_without_rendering()
    with pytest.raises(NetprobeError, match="did you mean 'one'"):
        plot(tree, models=["onee"])


@every_plot
def test_undefined_values_leave_gaps(name, tree, tmp_path):
    gaps = tree["one"][PLOTS[name]].to_dataset().copy(deep=True)
    for variable in gaps.data_vars.values():
        if variable.dtype.kind == "f":
            variable[...] = np.where(np.random.default_rng(0).random(variable.shape) < 0.3, np.nan, variable)
    plots.save(getattr(plots, name)(gaps), tmp_path / "gaps.svg")


def test_plots_show_the_numbers(tree):
    data = tree["one"]["jacobian"].to_dataset()
    line = plots.plot_jacobian_norms(data, quantity="operator").lines[0]
    np.testing.assert_allclose(line.get_ydata(), data["mean_operator"])
    distances = tree["one"]["distances"].to_dataset()
    panel = plots.plot_relative_accuracy(distances).child_axes[1]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), distances["relative_accuracy"].sel(walk="fgsm"))
    point = plots.plot_distance_scatter(distances, walk="fgsm").lines[0]
    assert point.get_xdata()[0] == float(distances["median"].sel(walk="fgsm"))
    assert point.get_ydata()[0] == float(distances["clean_accuracy"])
    units = tree["one"]["units"].to_dataset()
    panel = plots.plot_unit_spectra(units).child_axes[2]
    here = units.sel(inputs="images", site="linear1", count="all")["eigenvalues"].values
    here = here[np.isfinite(here)]
    drawn = [each for each in panel.lines if each.get_linestyle() == "-"][-1].get_ydata()
    np.testing.assert_allclose(drawn, (here / here[0])[here / here[0] > 1e-7])
    with pytest.raises(NetprobeError, match="did you mean 'operator'"):
        plots.plot_jacobian_norms(data, quantity="operater")


def test_an_open_median_is_drawn_at_the_edge(tree, tmp_path):
    data = tree["one"]["distances"].to_dataset().copy(deep=True)
    data["censored"][:] = np.where(data["censored"] == 0, 1, data["censored"])
    data["median"][:] = np.inf
    data["median_interval"][:] = [0.5, np.inf]
    for plot in (plots.plot_critical_distances, plots.plot_distance_scatter):
        plots.save(plot(data), tmp_path / "open.svg")


def test_boxes_are_quartiles_and_a_single_near_image_does_not_flatten_them(tree):
    data = tree["one"]["distances"].to_dataset().copy(deep=True)
    data["censored"][:] = 0
    data["distance"][:] = np.linspace(2, 6, data.sizes["image"])
    data["distance"][:, 0] = 1e-6
    data["median"][:], data["median_interval"][:] = 4, [3.5, 4.5]
    for panel in plots.plot_critical_distances(data).child_axes:
        (box,) = panel.patches
        lengths = data["distance"].values[0]
        low, high = np.quantile(lengths, [0.25, 0.75], method="lower")
        np.testing.assert_allclose([box.get_y(), box.get_y() + box.get_height()], [low, high])
        bottom, top = panel.get_ylim()
        assert low / 2 == bottom < low < high < top == 2 * high
    data["censored"][:, 1:] = 1
    data["median"][:], data["median_interval"][:] = np.inf, [4, np.inf]
    panel = plots.plot_critical_distances(data).child_axes[0]
    assert panel.get_ylim()[1] > panel.patches[0].get_y() + panel.patches[0].get_height()
    assert panel.texts[0].get_text() == f"{100 * (data.sizes['image'] - 1) / data.sizes['image']:.0f} %"

"""What is drawn of partial training is what is in the results; failures are drawn, and counted nowhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.testing import assert_allclose
from synthetic_partial import partial_training

from netprobe import plots
from netprobe.errors import NetprobeError

LAYERS = (*(f"conv{k}" for k in range(1, 8)), "linear")
N = len(LAYERS)


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    return partial_training(True, LAYERS)


def curve(ax: Axes, name: str) -> Line2D:
    return next(line for line in ax.lines if line.get_label() == name)


def crosses(ax: Axes, color: str) -> list[tuple[float, float]]:
    those = [line for line in ax.lines if line.get_marker() == "x" and line.get_color() == color]
    return sorted((float(np.ravel(line.get_xdata())[0]), float(np.ravel(line.get_ydata())[0])) for line in those)


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("quantity", ["adversarial_accuracy", "adversarial_loss", "clean_accuracy", "clean_loss"])
@pytest.mark.parametrize("code", ["A1N2", "A2N1", "N2A1"])
def test_curves_go_from_one_whole_network_to_the_other(data, quantity, code):
    """By hand: cutoff c is c adversarial layers if the early ones are, N - c if the late ones are."""
    line = curve(plots.plot_partial_curves(data, quantity=quantity), code)
    cells = data[quantity].sel(code=code, cutoff=range(1, N)).mean("seed").values
    ends = data[f"whole_{quantity}"].mean("seed").values
    inner = cells if code.startswith("A") else cells[::-1]
    assert_allclose(line.get_xdata(), range(N + 1))
    assert_allclose(line.get_ydata(), [ends[0], *inner, ends[1]])


def test_bands_reach_over_the_seeds(data):
    ax = plots.plot_partial_curves(data, codes="A1N2")
    vertices = ax.collections[0].get_paths()[0].vertices
    for cutoff in range(1, N):
        own = data["adversarial_accuracy"].sel(code="A1N2", cutoff=cutoff).values
        there = vertices[vertices[:, 0] == cutoff, 1]
        assert_allclose([there.min(), there.max()], [own.min(), own.max()])
    assert legend(ax) == ["A1N2", "Whole network trained one way"]


def test_what_failed_is_a_cross_and_in_no_mean(data):
    """N1A2 fails from cutoff 6 on, seed 0 without a number: with 2 and 1 adversarial layers, below the others."""
    failed = data["converged"].sel(code="N1A2") == 0
    assert failed.any("seed").values.tolist() == [False] * 6 + [True, True]
    for quantity, height in (("adversarial_accuracy", 0.1), ("adversarial_loss", 2.3)):
        ax = plots.plot_partial_curves(data, quantity=quantity)
        line = curve(ax, "N1A2")
        assert np.isnan(line.get_ydata()[[1, 2]]).all() and np.isfinite(line.get_ydata()[[0, 3, 8]]).all()
        wanted = sorted((x, y) for x in (1.0, 2.0) for y in (0.03, height, height))
        assert_allclose(crosses(ax, line.get_color()), wanted)
        assert "Failed to converge" in legend(ax)
    assert "Failed to converge" not in legend(plots.plot_partial_curves(data, codes=["A1N2"]))


def test_along_other_axes(data):
    ax = plots.plot_partial_curves(data, along="cutoff")
    assert legend(ax)[:5] == ["A1N2", "N1A2", "A2N1", "N2A1", "A1A2"]  # with the control
    assert_allclose(curve(ax, "N2A1").get_xdata(), range(N + 1))
    ends = data["whole_adversarial_accuracy"].mean("seed").values
    for code, first, last in (("A1N2", 0, 1), ("N2A1", 1, 0), ("A1A2", 1, 1)):  # all late, all early
        assert_allclose(curve(ax, code).get_ydata()[[0, -1]], ends[[first, last]])
    sizes = data["layer_parameters"].values
    line = curve(plots.plot_partial_curves(data, along="adversarial_parameters"), "N2A1")
    assert_allclose(line.get_xdata(), np.sort([sizes[cut:].sum() for cut in range(N + 1)]))


def test_a_cell_at_the_end_takes_the_place_of_the_whole_network(data):
    moved = data.reindex(cutoff=[0, 1, 2]).sel(code=["A1N2"])
    moved["converged"][...] = 1
    moved["adversarial_accuracy"][:, 0] = 0.77
    assert curve(plots.plot_partial_curves(moved), "A1N2").get_ydata()[0] == 0.77


def test_layers_against_their_own_stage_1(data):
    ax = plots.plot_partial_layers(data)
    assert legend(ax) == ["N2A1_l", "A2N1_l"]
    for code, way in (("N2A1_l", "adversarial"), ("A2N1_l", "natural")):
        change = data["adversarial_accuracy"].sel(code=code) - data["whole_adversarial_accuracy"].sel(training=way)
        assert_allclose(curve(ax, code).get_xdata(), range(N))
        assert_allclose(curve(ax, code).get_ydata(), change.mean("seed").values)
    assert [text.get_text() for text in ax.get_xticklabels()] == list(LAYERS)
    assert ax.get_ylabel() == "Change of adversarial accuracy (points)"
    assert ax.yaxis.get_major_formatter()(-0.075) == "−7.5"


def test_a_failed_stage_1_leaves_no_ground_to_compare_with(data):
    lost = data.copy(deep=True)
    lost["whole_converged"].loc[{"training": "adversarial"}] = 0
    ax = plots.plot_partial_layers(lost, codes="N2A1_l")
    assert np.isnan(curve(ax, "N2A1_l").get_ydata()).all() and "Failed to converge" in legend(ax)


def test_gains_per_thousand_parameters(data):
    ax, sizes = plots.plot_partial_parameters(data), data["layer_parameters"].values
    whole = data["whole_adversarial_accuracy"].mean("seed").values
    early = [whole[0], *data["adversarial_accuracy"].sel(code="A1N2", cutoff=range(1, N)).mean("seed").values, whole[1]]
    late = [whole[1], *data["adversarial_accuracy"].sel(code="N2A1", cutoff=range(1, N)).mean("seed").values, whole[0]]
    single = data["adversarial_accuracy"].sel(code="N2A1_l").mean("seed").values
    wanted = {
        "A1N2": [b - a for a, b in itertools.pairwise(early)],
        "N2A1": [a - b for a, b in itertools.pairwise(late)],
        "N2A1_l": whole[1] - single,
    }
    for code, gain in wanted.items():
        assert_allclose(curve(ax, code).get_xdata(), range(N))
        assert_allclose(curve(ax, code).get_ydata(), 1e5 * np.array(gain) / sizes, rtol=1e-9)
    assert ax.get_ylabel() == "Gain of adversarial accuracy\nper 1000 parameters (points)"


def test_mistakes(data):
    with pytest.raises(NetprobeError, match="unknown quantity 'accuracy'"):
        plots.plot_partial_curves(data, quantity="accuracy")
    with pytest.raises(NetprobeError, match="unknown along 'layers'"):
        plots.plot_partial_curves(data, along="layers")
    with pytest.raises(NetprobeError, match="unknown code 'N2A1_l'"):
        plots.plot_partial_curves(data, codes=["N2A1_l"])
    with pytest.raises(NetprobeError, match="these results have none"):
        plots.plot_partial_layers(data.sel(code=["A1N2"]))

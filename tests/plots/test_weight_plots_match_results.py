"""What the plots of weights draw is what is in the results: steps, lines, bounds, bins and headings."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose, assert_array_equal
from synthetic_results import SITES

from netprobe import plots
from netprobe.errors import NetprobeError
from netprobe.plots.panels import MOST, shared_bins
from netprobe.weights.tail import paired_difference

BLUE, ORANGE = "#0072b2", "#d55e00"
PAIR = ["natural", "robust"]


def title(ax: plt.Axes) -> str:
    return ax.get_legend().get_title().get_text()


def named(ax: plt.Axes) -> dict[str, plt.Axes]:
    """The panels by their titles."""
    return {panel.get_title(loc="left"): panel for panel in ax.child_axes}


def heights(patch, edges: np.ndarray) -> np.ndarray:
    """The height of a drawn histogram in each bin, read off its steps."""
    values, own = patch.get_data()[:2]
    return values[np.searchsorted(own, (edges[1:] + edges[:-1]) / 2) - 1]


def test_spectra_of_the_first_middle_and_last_convolutions(results):
    ax = plots.plot_singular_values(results, models=PAIR)
    convs = SITES[:-1]  # the last is linear
    assert list(named(ax)) == [convs[k] for k in (0, 1, 8, 9, -2, -1)]
    for model, colour, place in (("natural", BLUE, 0), ("robust", ORANGE, 1)):
        line = named(ax)["conv1"].lines[place]
        data = results[model]["singular_values"].sel(layer="conv1")
        assert_array_equal(line.get_xdata(), data["level"])
        assert_array_equal(line.get_ydata(), data["normalized"])
        assert to_hex(line.get_color()) == colour and line.get_label() == model
    assert {panel.get_ylim() for panel in ax.child_axes} == {(0, 1.04)}
    assert title(ax) == "Normalised singular values, circular padding, 6 of 20 layers"


def test_named_layers_and_no_others(results):
    ax = plots.plot_singular_values(results, layers=["fc", "conv1"])
    assert list(named(ax)) == ["fc", "conv1"]
    with pytest.raises(NetprobeError, match=r"unknown layer 'conv11': did you mean 'conv1'"):
        plots.plot_filter_hoyer(results, layers=["conv11"])


def test_filter_histograms_are_shares_over_common_bins(results):
    ax = plots.plot_filter_hoyer(results, models=PAIR)
    assert list(named(ax)) == list(SITES)  # all twenty fit
    edges = np.linspace(0, 1, 26)
    for place, model in enumerate(PAIR):
        values = results[model]["filters"]["hoyer_filter"].sel(layer="conv1").values
        known = values[np.isfinite(values)]
        patch = named(ax)["conv1"].patches[place]
        assert_allclose(heights(patch, edges), np.histogram(known, edges)[0] / known.size)
        assert to_hex(patch.get_edgecolor()) == (BLUE, ORANGE)[place]
    assert all(panel.get_xlim() == (0, 1) and panel.get_ylim()[0] == 0 for panel in ax.child_axes)
    assert "2/π, Gaussian weights" in [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("quantity", ["running_mean", "running_variance", "gamma", "beta"])
def test_batch_norm_histograms_share_fifty_bins_in_a_panel(results, quantity):
    ax = plots.plot_batch_norm(results, quantity=quantity, models=PAIR)
    values = [results[model]["batch_norm"][quantity].sel(layer="fc").values for model in PAIR]
    edges = np.linspace(np.min(values), np.max(values), 51)
    for patch, own in zip(named(ax)["fc"].patches, values, strict=True):
        assert_allclose(heights(patch, edges), np.histogram(own, edges)[0] / own.size)
    assert_allclose(named(ax)["fc"].get_xlim(), edges[[0, -1]])
    undefined = [text.get_text() for text in named(ax)[SITES[1]].texts]
    assert undefined == (["undefined"] if quantity == "beta" else [])


def test_bins_of_values_that_never_vary():
    edges = shared_bins([np.ones(3), np.empty(0)], 10)
    assert edges[0] < 1 < edges[-1] and (np.diff(edges) > 0).all()
    assert len(shared_bins([np.empty(0)], 10)) == 11


def test_as_many_panels_as_there_is_room_for(results):
    _, ax = plt.subplots(figsize=(3.7, 3.0))
    drawn = list(named(plots.plot_filter_hoyer(results, ax=ax)))
    assert drawn[0] == SITES[0] and drawn[-1] == SITES[-1] and len(drawn) == 4
    assert "4 of 20 layers" in title(ax).replace("\n", " ")
    assert MOST == 24


def test_operator_norms_with_bounds_and_product(results):
    ax = plots.plot_operator_norm(results, models=PAIR)
    data = results["robust"]["singular_values"].to_dataset()
    lines = {line.get_label(): line for line in ax.lines}
    label = f"robust: product 10^{float(data['log10_norm_product']):.1f}"
    assert_array_equal(lines[label].get_ydata(), data["operator_norm"])
    dashes = [line for line in ax.lines if line.get_marker() == "_"]
    assert_array_equal(dashes[1].get_ydata(), data["kernel_bound"])
    whiskers = np.array([segment[:, 1] for segment in ax.collections[1].get_segments()])
    assert_array_equal(whiskers, np.stack([data["operator_norm"], data["operator_norm_upper"]], 1))
    assert title(ax) == "Operator norm of each layer, circular padding"
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "Layer, in run order"


def test_tails_are_compared_in_the_heading_if_there_are_two(results):
    ax = plots.plot_tail_fatness(results, models=PAIR)
    first, second = (results[model]["singular_values"]["median_normalized"] for model in PAIR)
    said = title(ax).replace("\n", " ")
    assert said == f"Tail of the singular values, robust − natural: {paired_difference(first, second)}"
    assert title(plots.plot_tail_fatness(results)) == "Tail of the singular values"
    assert ax.get_ylim()[0] == 0


def test_effective_rank_is_a_share(results):
    line = plots.plot_effective_rank(results, models=["natural"]).lines[0]
    data = results["natural"]["singular_values"]
    assert_allclose(line.get_ydata(), data["effective_rank"] / data["count"])


def test_drift_of_a_condition_and_a_quantity(results):
    ax = plots.plot_batch_norm_drift(results, quantity="symmetric_kl", condition="noise", models=["robust"])
    data = results["robust"]["batch_norm_drift"].sel(condition="noise")
    assert_array_equal(ax.lines[0].get_ydata(), data["symmetric_kl"])
    assert title(ax).startswith("Drift of batch norm, noise")
    with pytest.raises(NetprobeError, match="unknown quantity 'kl'"):
        plots.plot_batch_norm_drift(results, quantity="kl")
    with pytest.raises(NetprobeError, match="unknown quantity 'mean'"):
        plots.plot_batch_norm(results, quantity="mean")

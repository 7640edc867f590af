"""What is drawn is what is in the results: lines, bands, bars, labels and legends, not pixels."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from synthetic_results import SITES

from netprobe import plots
from netprobe.errors import NetprobeError

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"


def curves(ax: plt.Axes) -> dict[str, plt.Line2D]:
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def legend(ax: plt.Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def title(ax: plt.Axes) -> str:
    return ax.get_legend().get_title().get_text() or ax.get_title(loc="left")


def band(collection) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of a band, by x."""
    vertices = collection.get_paths()[0].vertices
    x = np.unique(vertices[:, 0])
    at = [vertices[vertices[:, 0] == each, 1] for each in x]
    return np.array([y.min() for y in at]), np.array([y.max() for y in at])


@pytest.mark.parametrize(
    ("draw", "metric", "variable", "chosen", "ylabel", "heading"),
    [
        (plots.plot_psr, "psr", "psr_db", {"perturbation": "pgd@0.0314", "norm": "2"},
         "Perturbation-to-signal ratio (dB)", "pgd ε=8/255, L2 norm"),
        (plots.plot_cka, "cka", "cka", {"perturbation": "pgd@0.0314"},
         "Linear CKA between clean and perturbed", "pgd ε=8/255"),
        (plots.plot_sparsity, "hoyer", "hoyer", {"condition": "clean"},
         "Squared Hoyer ratio", "clean images"),
        (plots.plot_alpha, "spectrum", "alpha", {"condition": "clean", "definition": "channel"},
         "Power-law exponent α", "channel spectrum, clean images"),
    ],
)  # fmt: skip
def test_lines_along_the_network(results, draw, metric, variable, chosen, ylabel, heading):
    ax = draw(results)
    assert (ax.get_xlabel(), ax.get_ylabel(), title(ax)) == ("Site, in run order", ylabel, heading)
    assert legend(ax)[:3] == ["natural", "robust", "trades"]
    lines = [curves(ax)[model] for model in legend(ax)[:3]]
    names, colours = ("natural", "robust", "trades"), (BLUE, ORANGE, GREEN)
    for model, line, drawn, colour in zip(names, lines, ax.collections, colours, strict=True):
        data = results[model][metric].sel(chosen)
        assert to_hex(line.get_color()) == colour
        assert_array_equal(line.get_xdata(), np.arange(len(SITES)))
        assert_array_equal(line.get_ydata(), data[variable].values)
        for edge, bound in zip(band(drawn), ("low", "high"), strict=True):
            assert_array_equal(edge, data[f"{variable}_interval"].sel(bound=bound).values)
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 3


def test_site_names_are_the_ticks(results):
    ax = plots.plot_psr(results)
    assert [text.get_text() for text in ax.get_xticklabels()] == list(SITES)


def test_psr_chooses_perturbation_and_norm(results):
    line = curves(plots.plot_psr(results, perturbation="noise", norm="inf"))["robust"]
    assert_array_equal(line.get_ydata(), results["robust"]["psr"]["psr_db"].sel(perturbation="noise", norm="inf"))
    with pytest.raises(NetprobeError, match=r"unknown perturbation 'pdg@0.0314': did you mean 'pgd@0.0314'"):
        plots.plot_psr(results, perturbation="pdg@0.0314")
    with pytest.raises(NetprobeError, match=r"unknown norm '3'.*valid choices: .*inf"):
        plots.plot_psr(results, norm="3")


def test_psr_marks_where_the_perturbation_equals_the_signal(results):
    ax = plots.plot_psr(results)
    assert legend(ax)[-1] == "perturbation = signal"
    assert_array_equal(curves(ax)["perturbation = signal"].get_ydata(), (0, 0))
    assert legend(plots.plot_psr(results, models=["robust"])) == ["robust"]  # it stays below


def test_sites_that_differ_lie_at_their_relative_depth(results):
    short = results["robust"]["psr"].to_dataset().isel(site=slice(0, 5))
    both = results.copy()
    both["robust/psr"] = short.assign_coords(depth=("site", np.linspace(0, 1, 5)))
    ax = plots.plot_psr(both, models=["natural", "robust"])
    assert ax.get_xlabel() == "Relative depth in the network, 0 to 1"
    assert_array_equal(curves(ax)["robust"].get_xdata(), np.linspace(0, 1, 5))
    assert_array_equal(curves(ax)["natural"].get_xdata(), (1 + np.arange(len(SITES))) / len(SITES))


def test_ridge_axis_follows_the_largest_95th_percentile(results):
    ax = plots.plot_psr_ridge(results, models=["natural", "robust"])
    values = [results[m]["psr"]["psr"].sel(perturbation="pgd@0.0314", norm="2") for m in ("natural", "robust")]
    end = 1.1 * max(float(each.quantile(0.95, "image").max()) for each in values)
    assert_allclose(ax.get_xlim(), (0, end))
    beyond = np.mean([each.values > end for each in values])
    assert ax.get_xlabel() == f"Perturbation-to-signal ratio\n{100 * beyond:.1f} % of the values lie beyond the axis"
    assert [text.get_text() for text in ax.get_yticklabels()] == list(SITES)
    assert ax.yaxis_inverted()  # depth downwards


def test_ridge_is_a_histogram_divided_by_its_maximum(results):
    ax = plots.plot_psr_ridge(results, models=["natural"])
    data = results["natural"]["psr"]["psr"].sel(perturbation="pgd@0.0314", norm="2").values
    counts, edges = np.histogram(data[7], np.linspace(0, ax.get_xlim()[1], 101))
    x, y = ax.lines[7].get_data()
    height = (7 - y) / 1.6
    assert height.max() == pytest.approx(1)
    bins = np.searchsorted(edges, x) - 1
    assert_allclose(height, counts[bins] / counts.max(), atol=1e-12)  # rounding of 7 - 1.6 h
    assert counts[bins].sum() == counts.sum()  # the outline leaves no value out


def test_ridge_says_when_nothing_is_defined(results):
    data = results["natural"]["psr"].to_dataset()
    with pytest.raises(NetprobeError, match="undefined at every site"):
        plots.plot_psr_ridge(data.assign(psr=data["psr"] * np.nan))
    with pytest.raises(NetprobeError, match="unknown variable 'psr'"):
        plots.plot_psr_ridge(data.drop_vars("psr"))


def test_snr_bars_intervals_and_medians(results):
    ax = plots.plot_snr(results, perturbation="noise")
    assert (ax.get_ylabel(), title(ax)) == ("Signal-to-noise ratio (dB)", "noise σ=0.1 (Gaussian noise)")
    assert legend(ax) == ["natural", "robust", "trades", "median"]
    intervals, medians = ax.collections[2], ax.collections[3]
    data = results["robust"]["snr"].sel(perturbation="noise")
    bars = ax.containers[1]
    assert_array_equal([bar.get_height() for bar in bars], data["snr_db"].values)
    assert {to_hex(bar.get_facecolor()) for bar in bars} == {ORANGE}
    assert_array_equal([segment[:, 1] for segment in intervals.get_segments()], data["snr_db_interval"].values)
    assert_array_equal([segment[0, 1] for segment in medians.get_segments()], data["snr_median_db"].values)
    assert ax.get_ylim()[0] < 0 < ax.get_ylim()[1]  # bars need their zero


def test_spectrum_points_fit_and_band(results):
    ax = plots.plot_spectrum(results, site="layer2.0.conv1")
    data = (
        results["natural"]["spectrum"].to_dataset().sel(site="layer2.0.conv1", definition="channel", condition="clean")
    )
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel()) == ("log", "log", "Rank")
    assert ax.get_ylabel() == "Eigenvalue of the covariance / first"
    assert title(ax) == "layer2.0.conv1, channel spectrum, clean images"
    alpha, (low, high) = data["alpha"].item(), data["alpha_interval"].values
    assert legend(ax)[0] == f"natural: α = {alpha:.2f} [{low:.2f}, {high:.2f}]"

    points, fit = ax.lines[:2]
    ranks = np.arange(1, 49)  # 48 is the numerical rank of the synthetic spectra
    assert_array_equal(points.get_xdata(), ranks)
    assert_allclose(points.get_ydata(), (data["eigenvalues"] / data["eigenvalues"][0])[:48])
    assert_allclose(fit.get_xdata()[[0, -1]], (5, 40))  # the fitted ranks, no further
    expected = 10 ** data["log_prefactor"].item() / data["eigenvalues"][0].item() * fit.get_xdata() ** -alpha
    assert_allclose(fit.get_ydata(), expected)

    lower, upper = band(ax.collections[0])
    slopes = [
        -np.diff(np.log(edge[[-25, -1]])) / np.diff(np.log(fit.get_xdata()[[-25, -1]])) for edge in (upper, lower)
    ]
    assert_allclose(np.ravel(slopes), data["alpha_band"].values)


def test_spectrum_takes_the_last_site_with_a_fit(results):
    data = results["natural"]["spectrum"].to_dataset().copy(deep=True)
    data["alpha"][..., -2:] = np.nan
    assert title(plots.plot_spectrum(data.assign_attrs(model="m"))).startswith(f"{SITES[-3]},")
    ax = plots.plot_spectrum(data.assign_attrs(model="m"), site="fc")
    assert legend(ax) == ["m: no power-law fit"]
    assert len(ax.lines) == 1


def test_spectrum_names_definitions_there_are(results):
    with pytest.raises(NetprobeError, match=r"unknown definition 'unit'.*valid choices: .*pooled"):
        plots.plot_spectrum(results, definition="unit")


def test_correlation_shift_over_eps(results):
    ax = plots.plot_correlation_shift(results)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("ε (grey levels of 255)", "Correlation shift")
    assert title(ax) == "PGD, fc"
    data = results["robust"]["correlation"].to_dataset().isel(perturbation=slice(0, 3), site=-1)
    assert_allclose(curves(ax)["robust"].get_xdata(), (2, 4, 8))
    assert_array_equal(curves(ax)["robust"].get_ydata(), data["shift"])
    assert (ax.get_xlim()[0], ax.get_ylim()[0]) == (0, 0)
    per_pair = plots.plot_correlation_shift(results, site="conv1", per_pair=True)
    assert per_pair.get_ylabel() == "Correlation shift per pair"


def test_correlation_shift_over_severities(results):
    data = results["robust"]["correlation"].to_dataset().isel(perturbation=slice(0, 3))
    coords = {"perturbation": ["fog@1", "fog@3", "fog@5"], "family": ("perturbation", ["fog"] * 3)}
    ax = plots.plot_correlation_shift(data.assign_coords(coords | {"eps": ("perturbation", [1.0, 3.0, 5.0])}))
    assert (ax.get_xlabel(), title(ax)) == ("Severity", "fog, fc")
    assert_allclose(ax.lines[0].get_xdata(), (1, 3, 5))


def test_correlation_shift_over_sites_without_a_sweep(results):
    data = results["robust"]["correlation"].to_dataset().isel(perturbation=[3])
    ax = plots.plot_correlation_shift(data.assign_attrs(model="m"))
    assert_array_equal(curves(ax)["m"].get_ydata(), data["shift"][0])
    with pytest.raises(NetprobeError, match="leave site out"):
        plots.plot_correlation_shift(data, site="fc")
    with pytest.raises(NetprobeError, match="unknown family 'BIM'"):
        plots.plot_correlation_shift(results, family="BIM")


def test_accuracy_points_and_wilson_intervals(results):
    ax = plots.plot_accuracy(results)
    ax.figure.draw_without_rendering()
    assert ax.get_ylim() == (0, 1)
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        "clean", "pgd ε=2/255", "pgd ε=4/255", "pgd ε=8/255", "noise σ=0.1",
    ]  # fmt: skip
    assert ax.get_yticklabels()[-1].get_text() == "100 %"
    data = results["trades"]["accuracy"]
    assert_array_equal(curves(ax)["trades"].get_ydata(), data["accuracy"])
    whiskers = [segment[:, 1] for segment in ax.collections[2].get_segments()]
    assert_array_equal(whiskers, data["accuracy_interval"])


def test_gradcam_tiles(results):
    ax = plots.plot_gradcam(results, models=["natural", "robust"])
    tiles = {(round(x0), round(y1)): im for im in ax.images for x0, _, _, y1 in [im.get_extent()]}
    assert set(tiles) == {(column, row) for column in range(2) for row in range(5)}
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "image", "natural\nclean", "natural\npgd ε=8/255", "robust\nclean", "robust\npgd ε=8/255",
    ]  # fmt: skip
    assert [text.get_text() for text in ax.get_xticklabels()] == ["#7", "#8"]
    data = results["robust"]["gradcam"].to_dataset().isel(image=1).sel(condition="clean")
    drawn = tiles[1, 3]
    assert_allclose(drawn.get_array(), data["map"] / np.abs(data["map"]).max())
    assert drawn.get_clim() == (-1, 1)
    assert_allclose(to_rgb(drawn.cmap(0.5)), (0.97, 0.97, 0.97), atol=0.01)  # zero is (nearly) white
    assert_allclose(tiles[1, 0].get_array(), data["image"].transpose("y", "x", "channel"))
    numbers = {(int(text.get_position()[0]), int(text.get_position()[1])): text.get_text() for text in ax.texts}
    assert numbers[1, 3] == str(data["predicted"].item())


def test_gradcam_chooses_images_and_conditions(results):
    ax = plots.plot_gradcam(results, images=[1], conditions=["noise"], models=["trades"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["image", "trades\nnoise σ=0.1"]
    with pytest.raises(NetprobeError, match=r"maps of 2 images: choose images= from 0 to 1, not \[7\]"):
        plots.plot_gradcam(results, images=[7])


def test_gradcam_finds_the_images_by_their_dims(results):
    data = results["natural"]["gradcam"].to_dataset()
    named = data.rename_vars(image="input").assign_coords(image=[7, 9])
    assert_allclose(plots.plot_gradcam(named).images[0].get_array(), data["image"][0].transpose("y", "x", "channel"))
    with pytest.raises(NetprobeError, match="hold no images"):
        plots.plot_gradcam(named.drop_vars("input"))


def test_a_map_of_zeros_stays_zero(results):
    data = results["natural"]["gradcam"].to_dataset()
    ax = plots.plot_gradcam(data.assign(map=data["map"] * 0))
    assert all(np.all(image.get_array() == 0) for image in ax.images[2:])

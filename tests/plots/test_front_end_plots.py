"""Plots of front ends draw what their results say."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from netprobe import data, plots
from netprobe.defenses.polarizing import PixelQuantisation, PolarizingDefense, polarization, quantiser_curves
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn
from netprobe.plots import save


@pytest.fixture(scope="module")
def results():
    """Two stages of an untrained front end of nine 3x3 filters."""
    torch.manual_seed(0)
    models = {f"stage {n}": PolarizingDefense(filters=9, size=3).build(digits_cnn(in_channels=9)) for n in (1, 2)}
    return polarization(models, data.load("digits", limit=30), eps=0.2, progress=False)


@pytest.fixture(scope="module")
def pixels():
    model = PixelQuantisation().build(digits_cnn())
    return polarization({"pixels": model}, data.load("digits", limit=30), progress=False)


def drawings(results):
    return {
        "plot_polarization": results,
        "plot_front_end_filters": results,
        "plot_polarizing_bumps": quantiser_curves(),
    }


@pytest.mark.parametrize("name", drawings(None))
def test_draws_on_the_axes_it_is_given_in_its_own_style(name, results):
    before = dict(mpl.rcParams)
    _, ax = plt.subplots()
    assert getattr(plots, name)(drawings(results)[name], ax=ax) is ax
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", drawings(None))
def test_the_same_results_give_the_same_bytes(name, results, tmp_path):
    drawn = [save(getattr(plots, name)(drawings(results)[name]), tmp_path / f"{n}.svg").read_bytes() for n in (0, 1)]
    assert drawn[0] == drawn[1]


def test_a_histogram_a_stage_with_its_danger_zones(results):
    ax = plots.plot_polarization(results)
    assert len(ax.child_axes) == 2
    for panel, stage in zip(ax.child_axes, results["stage"].values, strict=True):
        here = results.sel(stage=stage)
        (steps,) = [patch for patch in panel.patches if isinstance(patch, mpl.patches.StepPatch)]
        heights = steps.get_data().values
        np.testing.assert_allclose(heights[heights > 1e-4], here["density"].values[here["density"].values > 1e-4])
        zones = [patch for patch in panel.patches if isinstance(patch, mpl.patches.Rectangle)]
        assert sorted(round(zone.get_x(), 6) for zone in zones) == [-0.7, 0.3]
        assert [round(zone.get_width(), 6) for zone in zones] == [0.4, 0.4]
        low, high = 100 * here["danger_interval"].values
        assert panel.get_title("left") == str(stage)
        assert panel.texts[0].get_text() == f"{100 * float(here['danger']):.1f} % [{low:.1f}, {high:.1f}]"
        assert panel.get_yscale() == "log"


def test_quantised_pixels_have_a_histogram_and_no_filters(pixels):
    assert len(plots.plot_polarization(pixels).child_axes) == 1
    with pytest.raises(NetprobeError, match="no filters"):
        plots.plot_front_end_filters(pixels)


def test_filters_are_drawn_one_by_one(results):
    (image,) = plots.plot_front_end_filters(results, stage="stage 1").images
    mosaic = image.get_array()
    weights = results["weight"].sel(stage="stage 1").mean("channel").values
    weights = weights / np.abs(weights).max((1, 2), keepdims=True)
    assert mosaic.shape == (3 * 24 + 2 * 2, 3 * 24 + 2 * 2)
    for number, filter_ in enumerate(weights):
        row, column = divmod(number, 3)
        tile = mosaic[row * 26 :, column * 26 :][:24, :24]
        np.testing.assert_allclose(tile[::8, ::8], filter_, atol=1e-6)
    assert mosaic.mask[24:26].all()


def test_an_unknown_stage_is_an_error(results):
    with pytest.raises(NetprobeError, match="unknown stage 'stage 3'"):
        plots.plot_front_end_filters(results, stage="stage 3")


def test_the_curves_are_the_formulas():
    curves = quantiser_curves(PolarizingDefense(threshold=0.3), points=201)
    z = curves["z"].values
    np.testing.assert_allclose(curves["first_bump"], np.exp(-(z**2) / (2 * 0.35**2)))
    second = sum(np.exp(-((z - c) ** 2) / (2 * 0.15**2)) for c in (-0.3, 0.3))
    np.testing.assert_allclose(curves["second_bump"], second)
    np.testing.assert_allclose(curves["smooth"], np.tanh(8 * (z - 0.3)) / 2 + np.tanh(8 * (z + 0.3)) / 2)
    lines = {line.get_label(): line for line in plots.plot_polarizing_bumps(curves).lines}
    np.testing.assert_allclose(lines["quantiser q(z)"].get_ydata(), np.sign(z - 0.3) / 2 + np.sign(z + 0.3) / 2)

"""Plots of accuracies by a setting and of signal maps draw what their results say."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr

import netprobe as npb
from netprobe import plots
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn


@pytest.fixture(scope="module")
def evaluated():
    """Of networks that are called by a setting, in no order, and of another."""
    torch.manual_seed(0)
    models = {name: digits_cnn() for name in ("blocks=2", "blocks=0", "other", "blocks=10")}
    some, noise = npb.data.load("digits", limit=12), {"noise": npb.GaussianNoise(0.1)}
    return npb.evaluate(models, some, noise, doubts=False, preflight=False, progress=False)


@pytest.fixture(scope="module")
def maps():
    torch.manual_seed(0)
    return npb.signal_maps(digits_cnn(), npb.data.load("digits", limit=2), npb.GaussianNoise(0.1))


def test_accuracies_are_drawn_over_the_numbers_in_the_names(evaluated):
    ax = plots.plot_accuracy_by_setting(evaluated, "blocks", called="number of blocks")
    assert (ax.get_xlabel(), ax.get_xticks().tolist()) == ("Number of blocks", [0, 2, 10])
    lines = {line.get_label(): line for line in ax.lines}
    for line, condition in zip(lines, ("clean", "noise"), strict=True):
        assert line.startswith(condition)
        for number, height in zip((0, 2, 10), lines[line].get_ydata(), strict=True):
            expected = evaluated[f"blocks={number}/evaluation/accuracy"].sel(condition=condition)
            assert height == pytest.approx(float(expected))
    band = ax.collections[0].get_paths()[0].vertices
    low, high = evaluated["blocks=10/evaluation/accuracy_interval"].sel(condition="clean").values
    at_end = band[np.isclose(band[:, 0], 10), 1]
    assert (at_end.min(), at_end.max()) == pytest.approx((low, high))
    with pytest.raises(NetprobeError, match="no model is called width=NUMBER, there are"):
        plots.plot_accuracy_by_setting(evaluated, "width")


def test_every_site_has_a_column_on_its_own_scale(maps):
    ax = plots.plot_signal_maps(maps)
    shown = [np.asarray(image.get_array()) for image in ax.images]
    assert len(shown) == 2 + 2 * 5
    np.testing.assert_array_equal(shown[0], maps["picture"][0])
    np.testing.assert_array_equal(shown[1], maps["perturbed"][0].clip(0, 1))
    for number, site in enumerate(maps["site"].values):
        signal, change = (maps[name].sel(site=site).values for name in ("signal", "change"))
        most = max(signal.max(), change.max())
        np.testing.assert_allclose(shown[2 + 2 * number], signal / most)
        np.testing.assert_allclose(shown[3 + 2 * number], change / most)
        assert f"{float(maps['snr_db'].sel(site=site)):.1f} dB" in ax.get_xticklabels()[number + 1].get_text()
    assert len(plots.plot_signal_maps(maps, sites=["conv2:in"]).images) == 4
    with pytest.raises(NetprobeError, match="unknown site"):
        plots.plot_signal_maps(maps, sites=["conv9:in"])
    with pytest.raises(NetprobeError, match="valid choices"):
        plots.plot_signal_maps(xr.Dataset({"accuracy": 1.0}))


@pytest.mark.parametrize("name", ["plot_signal_maps", "plot_accuracy_by_setting"])
def test_they_draw_on_the_axes_they_are_given_the_same_every_time(name, maps, evaluated, tmp_path):
    arguments = (maps,) if name == "plot_signal_maps" else (evaluated, "blocks")
    before, (_, ax) = dict(mpl.rcParams), plt.subplots()
    assert getattr(plots, name)(*arguments, ax=ax) is ax and dict(mpl.rcParams) == before
    drawn = [plots.save(getattr(plots, name)(*arguments), tmp_path / f"{n}.svg").read_bytes() for n in (0, 1)]
    assert drawn[0] == drawn[1]

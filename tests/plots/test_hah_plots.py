"""The plot of firing frequencies draws what its results say."""

import matplotlib as mpl
import numpy as np
import pytest
import torch

from netprobe import data, plots
from netprobe.defenses.hah import convert, firing
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn


@pytest.fixture(scope="module")
def results():
    """Two blocks of 16 and of 32 channels."""
    torch.manual_seed(0)
    return firing(convert(digits_cnn(), 3), data.load("digits", limit=30), progress=False)


def test_a_panel_a_site_with_its_channels_in_order(results):
    ax = plots.plot_firing(results)
    assert [panel.get_title("left") for panel in ax.child_axes] == ["conv1.conv", "conv2.conv", "conv3.conv"]
    for panel, site in zip(ax.child_axes, results["site"].values, strict=True):
        here = results.sel(site=site)
        channels = 32 if site == "conv3.conv" else 16
        (curve,) = [line for line in panel.lines if len(line.get_xdata()) == channels]
        values = here["frequency"].values
        np.testing.assert_array_equal(curve.get_ydata(), np.sort(values[np.isfinite(values)])[::-1])
        np.testing.assert_allclose(curve.get_xdata(), np.linspace(0, 1, channels))
        level = [line.get_ydata()[0] for line in panel.lines if len(line.get_xdata()) == 2]
        assert level == [0.95, float(here["even"])]
        (band,) = [part for part in panel.collections if isinstance(part, mpl.collections.PolyCollection)]
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.max() == pytest.approx(float(here["frequency_interval"].max()))


def test_channels_that_always_fire_are_counted(results):
    crowded = results.copy(deep=True)
    crowded["always"][1] = 3
    texts = [[text.get_text() for text in panel.texts] for panel in plots.plot_firing(crowded).child_axes]
    assert texts == [[], ["3 above"], []]


def test_chosen_sites(results):
    assert len(plots.plot_firing(results, sites=["conv2.conv"]).child_axes) == 1
    with pytest.raises(NetprobeError, match=r"unknown site 'conv9\.conv'"):
        plots.plot_firing(results, sites=["conv9.conv"])

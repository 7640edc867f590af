"""Plots of corruptions by severity and of distances to the boundary show the numbers of the results."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from synthetic_results import SITES, synthetic_results

from netprobe import plots
from netprobe.plots.reading import told


@pytest.fixture(scope="module")
def results():
    return synthetic_results(sites=SITES[:2], images=40, maps=1)


def of(ax, label):
    return next(line for line in ax.lines if line.get_label() == label).get_ydata()


def test_severity_curve(results):
    ax = plots.plot_severity_curve(results, ax=plt.subplots()[1])
    table = results["robust/corruptions"]
    np.testing.assert_allclose(of(ax, "robust"), table["mean_accuracy"])
    assert "Accuracy under 4 common corruptions" in ax.get_legend().get_title().get_text()


def test_corruptions_at_one_severity(results):
    table = results["natural/corruptions/accuracy"]
    for asked, shown in ((None, 5), (3, 3)):  # 4 was not evaluated
        ax = plots.plot_corruption_accuracy(results, severity=asked)
        np.testing.assert_allclose(of(ax, "natural"), table.sel(severity=shown))
    with pytest.raises(ValueError, match="unknown severity '2'"):
        plots.plot_corruption_accuracy(results, severity=2)


def test_boundary_distances_and_their_repeats(results, tmp_path):
    ax = plots.plot_boundary_distance(results)
    data = results["robust/boundary_distance"]
    np.testing.assert_allclose(of(ax, "robust"), data["median"])
    repeats = [line for line in ax.lines if line.get_marker() == "."]
    np.testing.assert_allclose(repeats[1].get_ydata(), data["repeat_median"])
    assert ax.get_yscale() == "log" and plots.save(ax, tmp_path / "a.svg").exists()
    alone = plots.plot_boundary_distance(data.to_dataset().isel(attack=[0]).isel(repeat=[0, 1]))
    assert alone.get_yscale() == "linear" and alone.get_ylim()[0] == 0


def test_of_many_conditions_the_strongest_of_each_sweep_is_told(results, monkeypatch):
    data = results["robust/evaluation"].to_dataset()
    names = [each.name for each in told(data)]
    assert names[:2] == ["clean", "pgd@2/255"] and len(names) == 6 and "fog@1" not in names
    monkeypatch.setattr("netprobe.plots.reading.MANY", 5)
    assert [each.name for each in told(data)] == ["clean", "pgd@8/255", "gaussian@0.2"]

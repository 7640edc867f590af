"""What the plots of similarities draw is what is in the results."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from netprobe import plots
from netprobe.errors import NetprobeError


def test_matrices_share_one_order(results):
    data = results["robust"]["similarity"].to_dataset()
    order = [3, 0, *range(4, 12), 2, 1]
    ax = plots.plot_similarity_matrices(data, sites=["conv1", "fc"], condition="noise", order=order)
    shown = [data["pixel_similarity"], *(data["similarity"].sel(condition="noise", site=s) for s in ("conv1", "fc"))]
    assert [panel.get_title("left") for panel in ax.child_axes] == ["pixels", "conv1", "fc"]
    for panel, matrix in zip(ax.child_axes, shown, strict=True):
        assert_array_equal(panel.images[0].get_array(), matrix.values[np.ix_(order, order)])


def test_names_of_panels_are_not_cut_off(results):
    ax = plots.plot_similarity_matrices(results, sites=["conv1", "layer1.0.conv1"])
    names = [panel.get_title("left") for panel in ax.child_axes]
    assert names[0] == "pixels" and names[2] == "natural layer1.0.conv1"


def test_clustering_puts_groups_beside_each_other():
    group = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], 5))
    matrix = (group[:, None] == group) * 0.8 + 0.1
    np.fill_diagonal(matrix, 1)
    places = plots.similarity_matrices.clustered(matrix)
    assert (np.diff(group[places]) != 0).sum() == 2


def test_curves_of_rsa(results):
    data = results["natural"]["rsa"]["pearson"].sel(condition="clean", other="robust/noise/fc")
    ax = plots.plot_rsa(results, other="robust/noise/fc", method="pearson")
    assert_array_equal(ax.lines[0].get_ydata(), data)
    assert ax.lines[0].get_label() == "natural"


def test_heat_map_of_cka(results):
    ax = plots.plot_cka_matrix(results, models=["natural", "trades"], condition="noise", against="clean")
    drawn = ax.images[0].get_array()
    sites = results["natural"]["cka_matrix"].sizes["site"]
    assert drawn.shape == (2 * sites, 4)  # the synthetic columns are the first and the last sites
    data = results["trades"]["cka_matrix"]["cka"].sel(condition="noise", site="conv1", other="natural/clean/fc")
    assert drawn[sites, 1] == data.item()


def test_joint_histogram_and_its_r(results):
    ax = plots.plot_similarity_joint(results, models=["robust"], sites="fc", condition="noise")
    data = results["robust"]["rsa"].to_dataset().sel(condition="noise", site="fc", reference="pixels")
    (panel,) = ax.child_axes
    assert_array_equal(np.nan_to_num(panel.images[0].get_array().filled(0)), data["joint"])
    assert [text.get_text() for text in panel.texts] == [f"r = {float(data['pearson'].sel(other='pixels')):.2f}"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: plots.plot_rsa(r, other="pixel"), "unknown other 'pixel': did you mean 'pixels'"),
        (lambda r: plots.plot_rsa(r, method="kendall"), "unknown method 'kendall'"),
        (lambda r: plots.plot_similarity_matrices(r, order=[0, 1]), "order= is not an order of the 12 images"),
        (lambda r: plots.plot_similarity_matrices(r, order="sorted"), "unknown order 'sorted'"),
        (lambda r: plots.plot_similarity_matrices(r, sites="conv99"), "unknown site 'conv99'"),
        (lambda r: plots.plot_cka_matrix(r, against="nosie"), "unknown condition 'nosie': did you mean 'noise'"),
    ],
)
def test_mistakes(results, draw, message):
    with pytest.raises(NetprobeError, match=message):
        draw(results)

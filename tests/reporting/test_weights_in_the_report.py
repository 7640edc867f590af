"""What the page and the verdict say of weights, computed again from the results."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from synthetic_results import synthetic_results

from netprobe.plots.reading import OF_WEIGHTS
from netprobe.reporting import report
from netprobe.reporting.comparing import compare
from netprobe.reporting.verdict import verdict
from netprobe.weights.tail import paired_difference


@pytest.fixture(scope="module")
def weights() -> xr.DataTree:
    tree = synthetic_results(("natural", "robust"), images=10, findings=False).to_dict()
    return xr.DataTree.from_dict({path: data for path, data in tree.items() if path.endswith(("/", *OF_WEIGHTS))})


def row(results, beginning):
    (found,) = [row for row in verdict(results).rows if row.quantity.startswith(beginning)]
    return found


def test_rows_of_the_verdict(results):
    data = {group: results["robust"][group].to_dataset() for group in OF_WEIGHTS}
    product = row(results, "log10 of the product").estimates["robust"].value
    assert product == pytest.approx(np.log10(data["singular_values"]["operator_norm"]).sum().item())
    tail = row(results, "Median singular value").estimates["robust"].value
    assert tail == pytest.approx(data["singular_values"]["median_normalized"].mean().item())
    hoyer = row(results, "Squared Hoyer ratio of the filters, conv1").estimates["robust"]
    first = data["filters"].isel(layer=0)
    assert list(hoyer) == pytest.approx([first["hoyer"].item(), *first["hoyer_interval"].values])
    assert row(results, "Dead filters").estimates["robust"].value == data["filters"]["dead"].sum()
    shift = row(results, "Shift of the batch-norm means, mean over layers, under noise").estimates["robust"].value
    assert shift == pytest.approx(data["batch_norm_drift"]["mean_shift"].sel(condition="noise").mean().item())


def test_layers_without_numbers_do_not_count(results):
    tree = results.to_dict()
    data = tree["/robust/singular_values"].copy(deep=True)
    data["median_normalized"][3:] = np.nan
    tree = xr.DataTree.from_dict(tree | {"/robust/singular_values": data})
    tail = row(tree, "Median singular value").estimates["robust"].value
    assert tail == pytest.approx(data["median_normalized"].values[:3].mean())


def test_tails_are_compared_layer_by_layer(results):
    first, second = (results[m]["singular_values"]["median_normalized"] for m in ("natural", "robust"))
    (said,) = [s for s in compare(results, "natural", "robust") if s.startswith("Median singular value")]
    assert str(paired_difference(first, second)) in said
    assert any(s.startswith("Squared Hoyer ratio of the filters") for s in compare(results, "natural", "robust"))


def test_a_page_of_weights_alone(weights, tmp_path):
    page = report(weights, tmp_path / "r.html").read_text()
    assert "What the weights of these networks tell, layer by layer" in page
    assert "Pre-flight findings" not in page  # nothing was run that a pre-flight could have warned of
    assert all(f'<section id="{group}"' in page for group in OF_WEIGHTS)
    assert "npb.probe(..., metrics=[...])" in page and "npb.weights.analyse" not in page
    assert all(f'download="{group}.csv"' in page for group in OF_WEIGHTS)
    assert len(page) < 3_000_000


def test_a_page_without_weights_says_how_to_get_them(results, tmp_path):
    tree = {path: data for path, data in results.to_dict().items() if path.endswith(("/", "accuracy"))}
    page = report(xr.DataTree.from_dict(tree), tmp_path / "r.html").read_text()
    assert "Not measured: Singular values of the layers, Sparsity of the filters" in page
    assert "npb.weights.analyse(...)" in page and "What perturbations do inside" in page


def test_models_with_other_layers_have_panels_each(tmp_path):
    sites = {"a": ("conv1", "fc"), "b": ("conv1", "conv2", "fc")}
    tree = synthetic_results(("a", "b"), sites=sites, images=10).to_dict()
    tree = {path: data for path, data in tree.items() if path.endswith(("/", "filters"))}
    page = report(xr.DataTree.from_dict(tree), tmp_path / "r.html").read_text()
    assert all(f"Squared Hoyer ratio of the filters of each layer, {model}" in page for model in "ab")

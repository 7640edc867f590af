"""The laws that every enrolled metric keeps; a new one gets them by being in METRICS.

A metric that cannot be made without settings needs an entry in EXAMPLES, a setting that takes another path one in
VARIANTS.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
import xarray as xr
from tiny import QUIET, ConvNet, assert_same, images, lookup, seeded, shifted, unchanged, variables

import netprobe as npb
from netprobe.data import Data, load
from netprobe.errors import NetprobeError
from netprobe.kernels import KernelReduction
from netprobe.metrics import METRICS, CorrelationShift, CrossValidatedSpectrum, Metric, Spectrum
from netprobe.observables import Layout, PerImage
from netprobe.partial import Partial

EXAMPLES = {"cv_spectrum": lambda: CrossValidatedSpectrum(repeats=("near", "far"), swaps=2, first=2)}
VARIANTS = {
    "spectrum of all kinds": Spectrum(definitions=("channel", "pooled", "unit"), first=1, jackknife=True),
    "spectrum, weighted": Spectrum(definitions=("pooled",), first=1, weighting="stringer", jackknife=True),
    "correlation, pooled": CorrelationShift(unit="pooled"),
}
CASES: dict[str, Metric] = {name: EXAMPLES.get(name, cls)() for name, cls in METRICS.items()} | VARIANTS
COUNTS = ("silent", "live_units")  # defined whatever the numbers are
N = 26
SITES = "conv1,type:relu,head"

every_metric = pytest.mark.parametrize("metric", CASES.values(), ids=CASES)


def mergeable(metric: Metric) -> bool:
    return not any(isinstance(o, KernelReduction) for o in metric.observables(Layout.blocked(N)))


MERGEABLE = {name: metric for name, metric in CASES.items() if mergeable(metric)}
every_mergeable = pytest.mark.parametrize("metric", MERGEABLE.values(), ids=MERGEABLE)
LINKING = {name: metric for name, metric in CASES.items() if not mergeable(metric)}


@pytest.fixture(scope="module")
def data() -> Data:
    """Images that grow brighter from first to last."""
    some = images(n=N)
    brightness = torch.linspace(0.2, 1, N)[:, None, None, None]
    return load((some.inputs * brightness, some.labels))


@pytest.fixture(scope="module")
def perturbations(data) -> dict:
    return {"near": lookup(shifted(data, 0.03, seed=1)), "far": lookup(shifted(data, 0.1, seed=2))}


@pytest.fixture(scope="module")
def model() -> ConvNet:
    """Its first layer's outputs lie around 1000 and drift with the brightness of the images."""
    return seeded(ConvNet, offset=1000).double()


@pytest.fixture(scope="module")
def whole(model, data, perturbations):
    """What one pass over all images in one batch gives, metric by metric."""
    results: dict[int, xr.DataTree] = {}

    def probed(metric: Metric) -> xr.DataTree:
        if id(metric) not in results:
            results[id(metric)] = run(model, data, perturbations, metric, batch_size=N)
        return results[id(metric)]

    return probed


def run(model, data, perturbations, metric, **settings) -> xr.DataTree:
    return npb.probe(model, data, perturbations, metric, SITES, **{**QUIET, "dtype": "float64", **settings})


def part(model, data, perturbations, metric, shard: str) -> Partial:
    return npb.gather(model, data, perturbations, metric, SITES, shard=shard, dtype="float64", batch_size=4, **QUIET)


# 1e-10: float64 loses six digits to a mean of 1000 and a few to sums, differences and logarithms
RTOL = 1e-10


@every_metric
@pytest.mark.parametrize("batch_size", [1, 4, 25])
def test_any_batch_size(metric, model, data, perturbations, whole, batch_size):
    assert_same(run(model, data, perturbations, metric, batch_size=batch_size), whole(metric), RTOL)


@every_metric
def test_conditions_apart_or_together(metric, model, data, perturbations, whole):
    assert_same(run(model, data, perturbations, metric, batch_size=7, paired=False), whole(metric), RTOL)


@every_mergeable
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_merge_to_the_whole(metric, model, data, perturbations, whole, order):
    parts = [part(model, data, perturbations, metric, f"{i}/3") for i in order]
    assert_same(npb.merge(parts).compute(), whole(metric), RTOL)


@every_mergeable
def test_merging_an_empty_part_changes_nothing(metric, model, data, perturbations):
    empty = part(model, data, perturbations, metric, "0/100")
    full = part(model, data, perturbations, metric, "0/1")
    expected = full.compute()
    assert empty.models["ConvNet"].images == 0
    for parts in ([full, empty], [empty, full], [empty, full, part(model, data, perturbations, metric, "2/100")]):
        assert_same(npb.merge(parts).compute(), expected)
    assert_same(full.compute(), expected)  # merging took nothing from the part


@pytest.mark.parametrize("metric", LINKING.values(), ids=LINKING)
def test_what_links_all_images_refuses_shards_before_any_work(metric, model, data):
    def work(model, x, y, *, generator):
        raise AssertionError("work before the error")

    with pytest.raises(NetprobeError, match="need all images in one part"):
        part(model, data, {"near": work, "far": work}, metric, "0/2")


@every_metric
def test_the_order_of_the_data_does_not_matter(metric, model, data, whole):
    """Except for what leaves out blocks of neighbours, and for random swaps, which are drawn image after image."""
    order = torch.randperm(N)
    moved = {"near": lookup(shifted(data, 0.03, seed=1)[order]), "far": lookup(shifted(data, 0.1, seed=2)[order])}
    found = run(model, data.select(order), moved, metric)
    for path, expected in variables(whole(metric)):
        if "interval" in path or "jackknife" in path or metric.name == "cv_spectrum":
            continue
        values = expected.isel({dim: order.numpy() for dim in ("image", "other_image") if dim in expected.dims})
        scale = np.nanmax(np.abs(values.values), initial=0, where=np.isfinite(values.values))
        np.testing.assert_allclose(found[path].values, values.values, rtol=RTOL, atol=RTOL * scale, err_msg=path)


@every_metric
def test_other_perturbations_and_sites_do_not_matter(metric, model, data, perturbations, whole):
    more = {"noise": "gaussian:std=0.2"} | perturbations
    tree = npb.probe(model, data, more, metric, "all", dtype="float64", **QUIET)
    for path, expected in variables(whole(metric)):
        shared = {"perturbation", "condition", "site", "rank", "channel"}.intersection(expected.dims)
        found = tree[path].sel({dim: expected[dim] for dim in shared})
        finite = np.isfinite(expected.values)
        scale = np.nanmax(np.abs(expected.values), initial=0, where=finite)
        np.testing.assert_allclose(found.values, expected.values, rtol=RTOL, atol=RTOL * scale, err_msg=path)


@every_metric
def test_float32_agrees_with_float64(metric, data, perturbations):
    """1e-5: a hundred roundings of float32, on a model without the offset of 1000, of which each would cost 6e-5.

    Exponents, and what is made of them, take the logarithm of the smallest eigenvalues: 1e-3 for those.
    """
    model = seeded(ConvNet)
    single, double = (run(model, data, perturbations, metric, dtype=dtype) for dtype in ("float32", "float64"))
    for path, expected in variables(double):
        rtol = 1e-3 if any(word in path for word in ("alpha", "r2", "prefactor", "interval")) else 1e-5
        scale = np.nanmax(np.abs(expected.values), initial=0, where=np.isfinite(expected.values))
        np.testing.assert_allclose(single[path].values, expected.values, rtol=rtol, atol=rtol * scale, err_msg=path)


@every_metric
def test_parts_survive_a_file_exactly(metric, model, data, perturbations, tmp_path):
    gathered = part(model, data, perturbations, metric, "0/1")
    path = gathered.save(tmp_path / "part.pt")
    torch.load(path, weights_only=True)  # reading executes no code
    loaded = Partial.load(path)
    assert loaded.metrics == (metric,)
    expected = gathered.compute()
    xr.testing.assert_identical(loaded.compute(), expected)
    assert_same(loaded.compute(), expected)


@every_metric
def test_results_survive_a_file_exactly(metric, whole, tmp_path):
    tree = whole(metric)
    loaded = npb.open_results(npb.save_results(tree, tmp_path / "results.nc"))
    xr.testing.assert_identical(loaded, tree)
    assert_same(loaded, tree)  # dtypes too


@every_metric
def test_state_does_not_grow_with_the_images_but_for_tables(metric, model, data):
    noise = {"near": "gaussian:std=0.03", "far": "gaussian:std=0.1"}

    def numbers(n: int) -> int:
        gathered = part(model, data.select([i % N for i in range(n)]), noise, metric, "0/1")
        states = [
            observable.state()
            for keyed in gathered.models["ConvNet"].observables.values()
            for observable in keyed.values()
            if not isinstance(observable, PerImage | KernelReduction)
        ]
        return sum(t.numel() for state in states for tensors in state.values() for t in tensors.values())

    assert numbers(40) == numbers(120)


@every_metric
def test_nothing_changes(metric, model, data):
    """No warning, and where clean and perturbed can be compared they are equal."""
    tree = run(model, data, {"near": unchanged, "far": unchanged}, metric)
    for path, values in variables(tree):
        if "condition" in values.dims:
            clean = values.sel(condition=["clean"] * values.sizes["condition"])
            np.testing.assert_allclose(values.values, clean.values, rtol=1e-12, err_msg=path)
        if "perturbation" in values.dims:
            first = values.isel(perturbation=[0, 0])
            np.testing.assert_array_equal(values.values, first.values, err_msg=path)


@every_metric
def test_degenerate_networks_and_data(metric, data, perturbations):
    """No warning and no error: silent layers, images all alike, three images, one image."""
    silent = seeded(ConvNet)
    with torch.no_grad():
        for parameter in silent.parameters():
            parameter.zero_()
    alike = load((torch.full((8, 3, 6, 5), 0.5), torch.arange(8) % 2))
    noise = {"near": "gaussian:std=0.1", "far": "gaussian:std=0.2"}
    for model, inputs in ((silent, data), (seeded(ConvNet), alike), (seeded(ConvNet), images(3)), (silent, images(1))):
        tree = run(model, inputs, noise, metric)
        assert f"ConvNet/{metric.name}" in {node.path.lstrip("/") for node in tree.subtree}


@every_metric
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_networks_that_overflow(metric, data, value):
    """No warning and no error: the numbers of the site before are as ever, those of the sites behind are NaN."""
    broken = seeded(ConvNet)
    noise = {"near": "gaussian:std=0.1", "far": "gaussian:std=0.2"}
    expected = run(broken, data, noise, metric)
    broken.conv2.bias.data.fill_(value)
    tree = run(broken, data, noise, metric)
    for path, values in variables(tree):
        if "site" in values.dims:
            np.testing.assert_array_equal(values.isel(site=0).values, expected[path].isel(site=0).values, err_msg=path)
            if values.dtype.kind == "f" and values.name not in COUNTS:
                assert values.isel(site=-1).isnull().all(), path


@every_metric
def test_variables_carry_their_meaning(metric, whole):
    tree = whole(metric)
    group = tree[f"ConvNet/{metric.name}"]
    assert group.data_vars
    assert json.loads(group.attrs["provenance"])["settings"]["metrics"] == [repr(metric)]
    for name, values in group.data_vars.items():
        assert all(values.attrs[key] for key in ("long_name", "units", "definition")), name
        for dim in values.dims:
            assert dim in values.coords, (name, dim)
        if "bound" in values.dims:
            assert values.dims[-1] == "bound" and values.bound.values.tolist() == ["low", "high"]
            low, high = values.values[..., 0], values.values[..., 1]
            assert ((low <= high) | np.isnan(low)).all(), name
            if name.endswith("_interval"):
                estimate = group[name.removesuffix("_interval")]
                assert values.dims[:-1] == estimate.dims
    site = group.coords["site"]
    assert (
        site.kind.values.tolist()
        == {
            "output": ["Conv2d", "ReLU", "ReLU", "Linear"],
            "input": ["Conv2d", "ReLU", "ReLU", "Linear"],
        }[metric.at]
    )
    assert (np.diff(site.order) > 0).all() and (site.depth > 0).all() and (site.depth <= 1).all()


@every_metric
def test_settings_are_values(metric):
    """Frozen, equal when equal, and JSON holds them."""
    copy = dataclasses.replace(metric)
    assert copy == metric and copy is not metric and hash(copy) == hash(metric)
    with pytest.raises(dataclasses.FrozenInstanceError):
        metric.at = "input"
    json.dumps(dataclasses.asdict(metric))


@every_metric
def test_a_metrics_own_sites_come_before_the_probes(metric, model, data, perturbations):
    own = dataclasses.replace(metric, sites="conv2", at="output")
    tree = run(model, data, perturbations, own)
    assert tree[f"ConvNet/{metric.name}"].site.values.tolist() == ["conv2"]

"""The laws of metrics."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import functools
import json
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from netprobe.data import Data, load
from netprobe.metrics import Metric
from netprobe.probing.kernels import KernelReduction
from netprobe.probing.observables import Layout, PerImage
from netprobe.probing.partial import Partial
from netprobe.probing.probe import gather, merge, probe
from netprobe.store import open_results, save_results
from netprobe.testing.comparing import assert_close, assert_same, variables
from netprobe.testing.law import check_laws, demand, law
from netprobe.testing.samples import ConvNet, images, lookup, seeded, shifted, unchanged

N = 26
SITES = "conv1,type:relu,head"
KINDS = ["Conv2d", "ReLU", "ReLU", "Linear"]
QUIET = {"preflight": False, "progress": False}
NOISE = {"near": "gaussian:std=0.03", "far": "gaussian:std=0.1"}
RTOL = 1e-10
"""float64 loses six digits to a mean of 1000 and a few to sums, differences and logarithms."""
NEIGHBOURS = ("*interval*", "*jackknife*")
"""Variables that leave out blocks of neighbouring images, and so depend on the order of the images."""
FLOAT32 = 1e-5
"""A hundred roundings of float32."""


def check_metric(
    metric: Metric,
    *,
    ordered: Iterable[str] = NEIGHBOURS,
    float32: Mapping[str, float] | None = None,
    defined: Iterable[str] = (),
) -> tuple[str, ...]:
    """Check that a metric keeps the laws of metrics; an AssertionError tells all that it breaks.

    Clean images are compared with the perturbations "near" and "far", on a network whose first layer's outputs lie
    around 1000, in float64; the metric's own `sites` are put aside.

    Parameters
    ----------
    ordered : patterns for names of variables that may depend on the order of the images.
    float32 : by pattern, the relative tolerance of variables in float32; others 1e-5. The first that matches counts.
    defined : patterns for variables that have a value even where activations are NaN or infinite, such as counts.

    Returns the names of the laws that were checked. Takes some seconds on one core.

    >>> import netprobe as npb
    >>> from netprobe.testing import check_metric
    >>> check_metric(npb.ChannelMoments())[:2]  # doctest: +SKIP
    ('results_can_be_computed', 'any_batch_size')
    """
    return check_laws(LAWS, MetricSubject(metric, ordered, float32 or {}, defined))


class MetricSubject:
    """A metric that is to be checked, and its results on one batch of all images."""

    def __init__(
        self,
        metric: Metric,
        ordered: Iterable[str] = NEIGHBOURS,
        float32: Mapping[str, float] | None = None,
        defined: Iterable[str] = (),
    ) -> None:
        self.metric = dataclasses.replace(metric, sites=None)
        self.ordered, self.float32, self.defined = tuple(ordered), dict(float32 or {}), tuple(defined)

    def __repr__(self) -> str:
        return f"the metric {self.metric!r}"

    @functools.cached_property
    def whole(self) -> xr.DataTree:
        """What one pass over all images in one batch gives."""
        return self.run(batch_size=N)

    @property
    def links_images(self) -> bool:
        """Whether every image is compared with every other, so that shards cannot be joined."""
        return any(isinstance(o, KernelReduction) for o in self.metric.observables(Layout.blocked(N)))

    def run(
        self,
        model: nn.Module | None = None,
        data: Data | None = None,
        perturbations: Mapping[str, Any] | None = None,
        sites: str = SITES,
        metric: Metric | None = None,
        **settings: Any,
    ) -> xr.DataTree:
        """Results, of the samples where nothing else is given."""
        settings = {"dtype": "float64", **QUIET, **settings}
        return probe(*_given(model, data, perturbations), metric or self.metric, sites, **settings)

    def part(self, shard: str, data: Data | None = None, perturbations: Mapping[str, Any] | None = None) -> Partial:
        """What a shard of the samples leaves."""
        settings = {"dtype": "float64", "batch_size": 4, "shard": shard, **QUIET}
        return gather(*_given(None, data, perturbations), self.metric, SITES, **settings)

    def may_follow_the_order(self, path: str) -> bool:
        return _matches(path, self.ordered)

    def tolerance(self, path: str) -> float:
        """Of float32."""
        return next((rtol for pattern, rtol in self.float32.items() if _matches(path, [pattern])), FLOAT32)

    def always_defined(self, path: str) -> bool:
        return _matches(path, self.defined)


@law("an error in `observables` or `compute`; a Dataset without variables", vital=True)
def results_can_be_computed(subject: MetricSubject) -> None:
    """A probe with the metric gives a Dataset with variables."""
    group = subject.whole[f"ConvNet/{subject.metric.name}"]
    demand(len(group.data_vars), "no data variables")


@law("state that is overwritten by a batch, a mean of means, sums of float32 without a shift")
def any_batch_size(subject: MetricSubject) -> None:
    """Results do not depend on how images are put into batches."""
    for batch_size in (1, 4, 25):
        assert_same(subject.run(batch_size=batch_size), subject.whole, RTOL)
    ordinary = seeded(ConvNet)  # beside an offset of 1000 ratios and angles hardly change from image to image
    assert_same(subject.run(ordinary, batch_size=4), subject.run(ordinary, batch_size=N), RTOL)


@law(
    usually="`merge` that forgets a part of the state, or takes the first part's", applies=lambda s: not s.links_images
)
def shards_merge_to_the_whole(subject: MetricSubject) -> None:
    """Shards, merged in any order, give the results of one pass."""
    for order in ((0, 1, 2), (2, 0, 1)):
        parts = [subject.part(f"{i}/3") for i in order]
        assert_same(merge(parts).compute(), subject.whole, RTOL)


@law("a mean of nothing in an observable that has seen no image", applies=lambda s: not s.links_images)
def merging_an_empty_part_changes_nothing(subject: MetricSubject) -> None:
    """A part without images leaves the others as they are, to the last bit, and merging leaves the parts alone."""
    empty, full, other = subject.part("0/100"), subject.part("0/1"), subject.part("2/100")
    expected = full.compute()
    for parts in ([full, empty], [empty, full], [empty, full, other]):
        assert_same(merge(parts).compute(), expected)
    assert_same(full.compute(), expected)


@law("a state that weighs late images more; `ordered` names variables that follow the order on purpose")
def the_order_of_the_data_does_not_matter(subject: MetricSubject) -> None:
    """Images in another order give the same results, image by image."""
    order, data = torch.randperm(N, generator=torch.Generator().manual_seed(0)), _data()
    moved = {name: lookup(inputs[order]) for name, inputs in _inputs().items()}
    found = subject.run(data=data.select(order), perturbations=moved)
    for path, expected in variables(subject.whole):
        if not subject.may_follow_the_order(path):
            wanted = expected.isel({dim: order.numpy() for dim in ("image", "other_image") if dim in expected.dims})
            assert_close(found[path].values, wanted.values, RTOL, path)


@law("reading a site or a condition by its place instead of by its name")
def other_perturbations_and_sites_do_not_matter(subject: MetricSubject) -> None:
    """Results for a site and a perturbation are the same whatever else is looked at in that pass."""
    noise = {"before": "gaussian:std=0.2"}, {"after": "gaussian:std=0.3"}
    tree = subject.run(perturbations=noise[0] | _perturbations() | noise[1], sites="all")
    for path, expected in variables(subject.whole):
        shared = {"perturbation", "condition", "site", "rank", "channel"}.intersection(expected.dims)
        found = tree[path].sel({dim: expected[dim] for dim in shared})
        assert_close(found.values, expected.values, RTOL, path)


@law("sums in float32, E[a^2] - E[a]^2, a float16 somewhere; `float32` sets tolerances")
def float32_agrees_with_float64(subject: MetricSubject) -> None:
    """Results in float32 are those in float64 up to rounding."""
    model = seeded(ConvNet)
    single, double = (subject.run(model, dtype=dtype) for dtype in ("float32", "float64"))
    for path, expected in variables(double):
        assert_close(single[path].values, expected.values, subject.tolerance(path), path)


@law("`state` and `restore` that differ in what they hold; settings that are no plain values")
def parts_survive_a_file_exactly(subject: MetricSubject) -> None:
    """What a pass leaves can be written to a file and read back, without executing code, to the same results."""
    with tempfile.TemporaryDirectory() as folder:
        gathered = subject.part("0/1")
        path = gathered.save(Path(folder) / "part.pt")
        torch.load(path, weights_only=True)
        loaded = Partial.load(path, [subject.metric])
    demand(loaded.metrics == (subject.metric,), f"the metric came back as {loaded.metrics}")
    expected = gathered.compute()
    xr.testing.assert_identical(loaded.compute(), expected)
    assert_same(loaded.compute(), expected)


@law("attributes or coordinates that netCDF has no type for, such as None or a dict")
def results_survive_a_file_exactly(subject: MetricSubject) -> None:
    """Results can be written to netCDF and read back, dtypes and attributes too."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = open_results(save_results(subject.whole, Path(folder) / "results.nc"))
    xr.testing.assert_identical(loaded, subject.whole)
    assert_same(loaded, subject.whole)


@law("keeping activations; numbers per image belong into a `PerImage` observable")
def state_does_not_grow_with_the_images(subject: MetricSubject) -> None:
    """What is accumulated has one size for any number of images, except for tables of a few numbers per image."""
    few, many = (_numbers(subject.part("0/1", _data().select([i % N for i in range(n)]), NOISE)) for n in (40, 120))
    demand(few == many, f"{few} numbers for 40 images, {many} for 120")


@law("0/0 and log 0 where the difference is nothing; comparing with the wrong condition")
def nothing_changes(subject: MetricSubject) -> None:
    """Where the perturbation changes nothing there is no warning, and perturbed values equal the clean ones."""
    with _warnings_as_errors():
        tree = subject.run(perturbations={"near": unchanged, "far": unchanged})
    for path, values in variables(tree):
        if "condition" in values.dims:
            clean = values.sel(condition=["clean"] * values.sizes["condition"])
            np.testing.assert_allclose(values.values, clean.values, rtol=1e-12, err_msg=path)
        if "perturbation" in values.dims:
            first = values.isel(perturbation=[0, 0])
            np.testing.assert_array_equal(values.values, first.values, err_msg=path)


@law("division by a norm or a variance of 0, quantiles of one image; NaN is the right answer there")
def degenerate_networks_and_data(subject: MetricSubject) -> None:
    """Silent layers, images all alike, three images and one image give results, without a warning."""
    silent = seeded(ConvNet)
    with torch.no_grad():
        for parameter in silent.parameters():
            parameter.zero_()
    alike = load((torch.full((8, 3, 6, 5), 0.5), torch.arange(8) % 2))
    for model, data in ((silent, _data()), (seeded(ConvNet), alike), (seeded(ConvNet), images(3)), (silent, images(1))):
        with _warnings_as_errors():
            tree = subject.run(model, data, NOISE)
        demand(subject.metric.name in tree["ConvNet"], f"no results for {len(data)} images")


@law("nanmean and comparisons, which hide NaN; `defined` names what has a value whatever the numbers are")
def networks_that_overflow(subject: MetricSubject) -> None:
    """NaN or infinity at a site makes the numbers of that site NaN, without a warning, and leaves those before it."""
    for value in (np.nan, np.inf):
        model = seeded(ConvNet)
        expected = subject.run(model, perturbations=NOISE)
        model.conv2.bias.data.fill_(value)
        with _warnings_as_errors():
            tree = subject.run(model, perturbations=NOISE)
        for path, values in variables(tree):
            if "site" in values.dims:
                before = [result[path].isel(site=0).values for result in (tree, expected)]
                np.testing.assert_array_equal(*before, err_msg=path)
                behind = values.isel(site=-1)
                hidden = values.dtype.kind == "f" and not subject.always_defined(path) and not behind.isnull().all()
                demand(not hidden, f"{path} where activations are {value} is {behind.values}")


@law("a plain xr.Variable in place of `metrics.base.variable`; a dim that `readings.dataset` knows nothing of")
def variables_carry_their_meaning(subject: MetricSubject) -> None:
    """Every variable has a long name, a unit and a definition, every dim coordinates; intervals end in `bound`."""
    group = subject.whole[f"ConvNet/{subject.metric.name}"]
    told = json.loads(group.attrs["provenance"])["settings"]["metrics"]
    demand(told == [repr(subject.metric)], f"the provenance names {told}")
    for name, values in group.data_vars.items():
        missing = [key for key in ("long_name", "units", "definition") if not values.attrs.get(key)]
        demand(not missing, f"{name} has no {', '.join(missing)}")
        bare = [dim for dim in values.dims if dim not in values.coords]
        demand(not bare, f"{name} has no coordinates for {', '.join(bare)}")
        if "bound" in values.dims:
            _demand_interval(group, name, values)
    if "site" in group.coords:
        _demand_sites(group.coords["site"])


@law("a dataclass that is not frozen, or a setting that is a list or an object")
def settings_are_values(subject: MetricSubject) -> None:
    """The metric is frozen, hashable, equal to a copy of itself, and JSON can hold its settings."""
    metric, copy = subject.metric, dataclasses.replace(subject.metric)
    demand(copy == metric and hash(copy) == hash(metric), "a copy is another value")
    demand(type(metric).__dataclass_params__.frozen, f"{type(metric).__name__} is not @dataclass(frozen=True)")
    json.dumps(dataclasses.asdict(metric))


@law("an `__init__` or `__post_init__` that drops the fields `at` and `sites` of Metric")
def its_own_sites_come_before_the_probes(subject: MetricSubject) -> None:
    """A metric that names sites of its own is computed there."""
    tree = subject.run(metric=dataclasses.replace(subject.metric, sites="conv2", at="output"))
    sites = tree[f"ConvNet/{subject.metric.name}"].site.values.tolist()
    demand(sites == ["conv2"], f"sites={sites} for sites='conv2'")


LAWS = (
    results_can_be_computed,
    any_batch_size,
    shards_merge_to_the_whole,
    merging_an_empty_part_changes_nothing,
    the_order_of_the_data_does_not_matter,
    other_perturbations_and_sites_do_not_matter,
    float32_agrees_with_float64,
    parts_survive_a_file_exactly,
    results_survive_a_file_exactly,
    state_does_not_grow_with_the_images,
    nothing_changes,
    degenerate_networks_and_data,
    networks_that_overflow,
    variables_carry_their_meaning,
    settings_are_values,
    its_own_sites_come_before_the_probes,
)


@functools.cache
def _data() -> Data:
    """Images that grow brighter from first to last."""
    some = images(n=N)
    return load((some.inputs * torch.linspace(0.2, 1, N)[:, None, None, None], some.labels))


@functools.cache
def _inputs() -> dict[str, torch.Tensor]:
    """The images, near and far from where they were."""
    return {"near": shifted(_data(), 0.03, seed=1), "far": shifted(_data(), 0.1, seed=2)}


def _perturbations() -> dict[str, Any]:
    return {name: lookup(inputs) for name, inputs in _inputs().items()}


@functools.cache
def _model() -> ConvNet:
    """Its first layer's outputs lie around 1000 and drift with the brightness of the images."""
    return seeded(ConvNet, offset=1000).double()


def _given(model: nn.Module | None, data: Data | None, perturbations: Mapping[str, Any] | None) -> tuple:
    model, data = _model() if model is None else model, _data() if data is None else data
    return model, data, perturbations or _perturbations()


def _matches(path: str, patterns: Iterable[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _numbers(gathered: Partial) -> int:
    """How many numbers the state holds, but for tables per image and for kernels, which are meant to grow."""
    states = [
        observable.state()
        for keyed in gathered.models["ConvNet"].observables.values()
        for observable in keyed.values()
        if not isinstance(observable, PerImage | KernelReduction)
    ]
    return sum(t.numel() for state in states for tensors in state.values() for t in tensors.values())


def _demand_interval(group: xr.DataTree, name: str, values: xr.DataArray) -> None:
    last = values.dims[-1] == "bound" and values.bound.values.tolist() == ["low", "high"]
    demand(last, f"{name} has dims {values.dims}: bound, low and high, comes last")
    low, high = values.values[..., 0], values.values[..., 1]
    demand(((low <= high) | np.isnan(low)).all(), f"{name} has low above high")
    if name.endswith("_interval"):
        estimate = group[name.removesuffix("_interval")]
        demand(values.dims[:-1] == estimate.dims, f"{name} has dims {values.dims}, the estimate {estimate.dims}")


def _demand_sites(site: xr.DataArray) -> None:
    demand(site.kind.values.tolist() == KINDS, f"sites of kinds {site.kind.values.tolist()}, not {KINDS}")
    rises = (np.diff(site.order) > 0).all() and (site.depth > 0).all() and (site.depth <= 1).all()
    demand(rises, f"depths {site.depth.values} do not rise within (0, 1]")


@contextlib.contextmanager
def _warnings_as_errors() -> Iterator[None]:
    """Such as numpy's about division by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield

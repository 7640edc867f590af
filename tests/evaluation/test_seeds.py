"""Means over trainings are numpy's, their intervals scipy's, and they are drawn and told as results of one network."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from evaluating_helpers import QUIET, Nearest
from scipy import stats
from tiny import ConvNet, images, lookup, seeded, shifted

import netprobe as npb
from netprobe.cli import main
from netprobe.errors import NetprobeError
from netprobe.evaluation import corruptions, evaluate
from netprobe.plots.reading import models_with
from netprobe.reporting.sections import SECTIONS
from netprobe.reporting.verdict import verdict
from netprobe.seeds import over_seeds
from netprobe.uncertainty import t_interval, welch_interval

PLAIN, WIDE = [f"plain-{k}" for k in range(3)], ["wide-0", "wide-1"]


@pytest.fixture(scope="module")
def results():
    models = {name: seeded(ConvNet, seed=k) for k, name in enumerate(PLAIN)}
    models |= {name: seeded(ConvNet, width=9, seed=k) for k, name in enumerate(WIDE)} | {"other": seeded(ConvNet)}
    noise = npb.sweep("gaussian", std=[0.1, 0.2]) | {"fgsm": "fgsm:eps=0.1"}
    data = images(24, (3, 16, 16))
    asked = noise | {"near": Nearest(lookup(shifted(data, 0.5)))} | corruptions([1, 5], ["fog", "brightness"])
    return evaluate(models, data, asked, spectra=True, **QUIET)


@pytest.fixture(scope="module")
def grouped(results):
    return over_seeds(results)


def test_t_and_welch_are_those_of_scipy():
    one, two = np.random.default_rng(0).normal(size=(2, 4, 5))
    two = two[:, :3] * 3
    low, high = stats.t.interval(0.95, 4, one.mean(-1), stats.sem(one, axis=-1))
    np.testing.assert_allclose(t_interval(one), np.stack([low, high], -1))
    exact = stats.ttest_ind(one, two, axis=-1, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(welch_interval(one, two), np.stack([exact.low, exact.high], -1))
    assert np.isnan(t_interval(one[:, :1])).all() and np.isnan(welch_interval(one, two[:, :1])).all()
    np.testing.assert_array_equal(welch_interval(np.ones(3), np.zeros(3)), [1, 1])


def test_attributes_are_those_that_all_members_share():
    trees = {f"net-{k}": xr.Dataset({"a": 1.0, "a_interval": ("bound", [0.0, 2.0])}) for k in range(2)}
    for k, each in enumerate(trees.values()):
        each["a"].attrs = {"units": "1", "definition": "a"}
        each.attrs = {"samples": 24, "sites": ["a", "b"], "seed": k}
    grouped = over_seeds(xr.DataTree.from_dict({f"/{name}/metric": each for name, each in trees.items()}))
    about = {key: value for key, value in grouped["net/metric"].attrs.items() if key != "provenance"}
    assert about == {"samples": 24, "sites": ["a", "b"]}


def test_every_estimate_is_the_mean_over_trainings(results, grouped):
    assert [name for name in grouped.children if name != "comparison"] == ["plain", "wide"]
    for path in (
        "evaluation/accuracy",
        "evaluation/mean_loss",
        "corruptions/mean_accuracy",
        "worst_case/worst_accuracy",
    ):
        seen = np.stack([results[f"{name}/{path}"].values for name in PLAIN], -1)
        np.testing.assert_allclose(grouped[f"plain/{path}"], seen.mean(-1))
        least, most = (0, np.inf) if path.endswith("loss") else (0, 1)
        np.testing.assert_allclose(grouped[f"plain/{path}_interval"], np.clip(t_interval(seen), least, most))
    assert "correct" not in grouped["plain/evaluation"] and "image" not in grouped["plain/evaluation"].dims
    np.testing.assert_array_equal(grouped["wide/evaluation/eps"], results["wide-0/evaluation/eps"])


def test_intervals_end_where_no_mean_can_be():
    far = {"a-0": ([0.0, 1.0], 0.1, -3.0), "a-1": ([0.3, 0.6], 4.0, 5.0)}

    def known(dims, value, units):
        bounds = np.stack([np.asarray(value, float)] * 2, -1)
        about = {"long_name": "x", "units": units, "definition": "x"}
        return {"": (dims, value, about), "_interval": ([*dims, "bound"], bounds, about)}

    tree = xr.DataTree()
    for name, (accuracy, median, loss) in far.items():
        every = {"accuracy": (["k"], accuracy, "1"), "median": ([], median, "input²"), "mean_loss": ([], loss, "nat")}
        every["mean_frobenius"] = ([], median, "activation / input")
        found = {f"{key}{end}": each for key, one in every.items() for end, each in known(*one).items()}
        tree[f"{name}/evaluation"] = xr.DataTree(xr.Dataset(found, {"k": [1, 2]}))
    found = over_seeds(tree)["a/evaluation"]
    np.testing.assert_array_equal(found["accuracy_interval"], [[0, 1], [0, 1]])
    assert found["median_interval"].values[0] == 0 < t_interval(np.array([0.1, 4.0]))[1] == found["median_interval"][1]
    assert found["mean_frobenius_interval"].values[0] == 0
    np.testing.assert_allclose(found["mean_loss_interval"], t_interval(np.array([-3.0, 5.0])))


def test_groups_are_compared_by_condition(results, grouped):
    found = grouped["comparison"]
    assert found["pair"].values.tolist() == ["wide minus plain"]
    plain, wide = (np.stack([results[n]["evaluation/accuracy"].values for n in names], -1) for names in (PLAIN, WIDE))
    np.testing.assert_allclose(found["difference"].values[0], wide.mean(-1) - plain.mean(-1))
    np.testing.assert_allclose(found["difference_interval"].values[0], welch_interval(wide, plain).clip(-1, 1))
    own = over_seeds(results, {"a": WIDE, "b": [*PLAIN[:2], "other"]})["comparison"]
    assert own["pair"].values.tolist() == ["b minus a"]


def test_they_are_drawn_and_told_as_any_results(grouped):
    for section in SECTIONS:
        models = models_with(grouped, section.metric)
        for figure in section.figures(grouped, models) if models else ():
            plt.close(figure.draw().figure)
    said = str(verdict(grouped))
    assert "Under gaussian σ=0.2: a difference of" in said and "over 3 trainings of plain and 2 of wide" in said


def test_mistakes_are_named(results):
    with pytest.raises(NetprobeError, match="did you mean 'wide-0'"):
        over_seeds(results, {"a": ["wide-0", "wide-2"]})
    with pytest.raises(NetprobeError, match="two trainings or more"):
        over_seeds(results, {"a": ["wide-0"]})
    with pytest.raises(NetprobeError, match="call models NAME-0, NAME-1"):
        over_seeds(results.filter(lambda node: "-" not in node.path))


def test_the_verb(results, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "netprobe.reporting.outcome.draw", lambda tree, folder: folder / "report.html"
    )  # drawn elsewhere
    few = results.filter(lambda node: node.name == "corruptions")
    path = npb.save_results(few, tmp_path / "results.nc")
    done = CliRunner().invoke(main, ["seeds", str(path)])
    assert done.exit_code == 0 and "Mean error under corruptions" in done.output
    found = npb.open_results(tmp_path / "seeds" / "results.nc")
    assert set(found.children) == {"plain", "wide"} and json.loads(found.attrs["provenance"])["groups"]["wide"] == WIDE

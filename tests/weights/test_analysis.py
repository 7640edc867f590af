"""Everything together: groups, provenance, files, the join with a probe, and what is refused before the work."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import xarray as xr
from tiny import QUIET, ConvNet, images, seeded
from torch import Tensor, nn

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.store import open_results, provenance, save_results
from netprobe.weights import analyse, batch_norm_drift, drift_metric, filters, join

SHAPE = (3, 6, 5)
NOISE = {"noise": "gaussian:std=0.1"}


class Normed(ConvNet):
    """With a batch norm behind the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn(self.conv1(x)))
        x = self.relu2(self.conv2(x))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {"a": seeded(Normed, seed=0), "b": seeded(Normed, seed=1)}


@pytest.fixture(scope="module")
def tree(models) -> xr.DataTree:
    return analyse(models, data=images(12), perturbations=NOISE, progress=False)


def test_every_group_is_there(tree, models):
    assert set(tree.children) == {"a", "b"}
    for name in models:
        assert set(tree[name].children) == {"singular_values", "filters", "batch_norm", "batch_norm_drift"}
    assert tree["a/filters"].layer.values.tolist() == ["conv1", "conv2", "head"]
    assert tree["a/batch_norm_drift"].condition.values.tolist() == ["clean", "noise"]


def test_groups_are_what_the_functions_return(tree, models):
    found = tree["b/filters"].to_dataset().drop_attrs(deep=False)
    xr.testing.assert_identical(found, filters(models["b"], SHAPE))
    drift = batch_norm_drift(models["b"], images(12), NOISE, progress=False)
    np.testing.assert_array_equal(tree["b/batch_norm_drift"]["mean_shift"], drift["mean_shift"])


def test_it_needs_no_data(models):
    tree = analyse(models["a"], SHAPE, progress=False)
    assert set(tree["Normed"].children) == {"singular_values", "filters", "batch_norm"}
    assert "needs data" in provenance(tree)["weights"]["left_out"]["Normed"]["batch_norm_drift"]


def test_a_network_without_batch_norm_lacks_those_groups():
    tree = analyse(seeded(ConvNet), data=images(12), progress=False)
    assert set(tree["ConvNet"].children) == {"singular_values", "filters"}
    assert provenance(tree)["weights"]["left_out"]["ConvNet"] == {"batch_norm": "the model has no batch norm"}


def test_results_carry_their_provenance_and_survive_a_file(tree, tmp_path):
    about = provenance(tree)
    assert about["weights"]["input_shape"] == list(SHAPE) and about["weights"]["settings"]["method"] == "auto"
    assert set(about["models"]) == {"a", "b"} and about["data"]["samples"] == 12 and about["perturbations"]
    assert provenance(tree["a/filters"]) == about
    xr.testing.assert_identical(open_results(save_results(tree, tmp_path / "r.nc")), tree)


def test_same_seed_same_numbers(tree, models):
    again = analyse(models, data=images(12), perturbations=NOISE, progress=False)
    xr.testing.assert_identical(again, tree)


def test_joined_to_a_probe_it_is_the_same(tree, models):
    """The drift is made in the pass of the probe, without a second one, and the moments give way to it."""
    metrics = [npb.PSR(), drift_metric(models, SHAPE)]
    probed = npb.probe(models, images(12), NOISE, metrics, "conv", **QUIET)
    joined = join(probed, models, SHAPE, progress=False)
    assert set(joined["a"].children) == set(tree["a"].children) | {"accuracy", "psr"}
    for group in tree["a"].children:
        for name, values in tree[f"a/{group}"].data_vars.items():
            found = joined[f"a/{group}"][name]
            if values.dtype.kind == "f":
                np.testing.assert_allclose(found, values, rtol=1e-5, err_msg=name)  # float32, other batches
    about = provenance(joined)
    assert about["weights"]["settings"] == provenance(tree)["weights"]["settings"] and about["settings"]["seed"] == 0


def test_a_join_goes_on_without_a_model_that_has_no_layers(caplog):
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    models = {"mean": Mean(), "net": seeded(Normed)}
    probed = npb.probe(models, images(12, classes=3), NOISE, "psr", "input", **QUIET)
    with caplog.at_level(logging.WARNING):
        joined = join(probed, models, SHAPE, progress=False)
    assert "nothing of the weights of mean" in caplog.text
    assert "filters" not in joined["mean"].children and "filters" in joined["net"].children


def test_drift_in_a_probe_needs_batch_norm_in_every_model(models):
    assert drift_metric(models | {"plain": seeded(ConvNet)}, SHAPE) is None
    other = seeded(Normed)
    other.add_module("extra", nn.Identity())
    assert drift_metric(models | {"c": other}, SHAPE).at == "input"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give input_shape"),
        ({"input_shape": SHAPE, "perturbations": NOISE}, "perturbations need images"),
        ({"input_shape": SHAPE, "metod": "exact"}, "unknown setting of analyse 'metod': did you mean 'method'"),
        ({"input_shape": SHAPE, "method": "exakt"}, "unknown method 'exakt': did you mean 'exact'"),
        ({"input_shape": SHAPE, "layers": "conv3x"}, r"conv3x'.*did you mean 'conv[12]'"),
        ({"input_shape": SHAPE, "batch_size": 0}, "batch_size=0"),
        ({"input_shape": SHAPE, "memory": "much"}, "cannot read the size 'much'"),
        ({"input_shape": (6, 5)}, "does not run on an input of shape|input"),
        ({"data": "digitz"}, "digits"),
        ({"input_shape": SHAPE, "models": {}}, "no models given"),
    ],
)
def test_mistakes_are_found_before_the_work(models, arguments, message):
    with pytest.raises(NetprobeError, match=message):
        analyse(arguments.pop("models", models), **arguments)


def test_models_are_left_as_found(models):
    model = models["a"].train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    analyse(model, data=images(12), progress=False)
    assert model.training and all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    model.eval()

"""CKA between any two representations, against the formulas of Song et al. and Kornblith et al. on features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from tiny import QUIET, ConvNet, affine, assert_same, images, lookup, recorded, seeded, shifted, units
from torch import nn

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.representations.alignment import cka_matrix
from netprobe.uncertainty import jackknife_interval

SITES = ("conv1", "conv2", "head")
N = 24


def hsic_1(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """Song et al. 2012, equation 5, as it is written there."""
    m, one = len(k), np.ones(len(k))
    k, l = k * (1 - np.eye(m)), l * (1 - np.eye(m))  # noqa: E741
    first = np.trace(k @ l)
    second = (one @ k @ one) * (one @ l @ one) / ((m - 1) * (m - 2))
    third = 2 * (one @ k @ l @ one) / (m - 2)
    return (first + second - third) / (m * (m - 3))


def hsic_0(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    h = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ h @ l @ h)


HSIC = {"unbiased": hsic_1, "biased": hsic_0}


def slow(x: np.ndarray, y: np.ndarray, estimator: str = "unbiased") -> float:
    hsic, k, l = HSIC[estimator], x @ x.T, y @ y.T  # noqa: E741
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def cka(models, data, perturbations=None, sites="weighted", **settings) -> xr.DataTree:
    return cka_matrix(models, data, perturbations, sites, **{**QUIET, "dtype": "float64", **settings})


@pytest.fixture(scope="module")
def setting():
    data = images(N)
    other = shifted(data, 0.3)
    models = {"a": seeded(ConvNet).double(), "b": seeded(ConvNet, width=9, seed=1).double()}
    features = {
        f"{name}/{condition}/{site}": units(found)
        for name, model in models.items()
        for condition, x in (("clean", data.inputs), ("noise", other))
        for site, found in recorded(model, x.double(), *SITES).items()
    }
    return models, data, {"noise": lookup(other)}, features


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_every_number_is_its_formula(setting, estimator):
    """1e-8: the formula on features that are not centred loses digits that the centred kernels keep."""
    models, data, perturbations, features = setting
    tree = cka(models, data, perturbations, estimator=estimator)
    for name in models:
        found = tree[f"{name}/cka_matrix"].to_dataset()
        assert found["other"].values.tolist() == list(features)
        for condition in ("clean", "noise"):
            for site in SITES:
                x = features[f"{name}/{condition}/{site}"]
                expected = [slow(x, y, estimator) for y in features.values()]
                np.testing.assert_allclose(found.cka.sel(condition=condition, site=site), expected, atol=1e-8)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_intervals_are_the_jackknife_of_blocks(setting, estimator):
    models, data, perturbations, features = setting
    found = cka(models, data, perturbations, estimator=estimator)["b/cka_matrix"].to_dataset()
    for other in ("a/clean/conv1", "b/noise/conv2"):
        x, y = features["b/clean/conv2"], features[other]
        kept = [np.delete(np.arange(N), slice(s, s + 3)) for s in range(0, N, 3)]
        expected = jackknife_interval(
            np.array(slow(x, y, estimator)), np.array([slow(x[k], y[k], estimator) for k in kept])
        )
        low = -1 if estimator == "unbiased" else 0
        bounds = found.cka_interval.sel(condition="clean", site="conv2", other=other)
        np.testing.assert_allclose(bounds, expected.clip(low, 1), rtol=1e-7)


def test_minibatches_average_hsic_before_the_ratio(setting):
    models, data, perturbations, features = setting
    found = cka(models, data, perturbations, minibatch=7, seed=3)["a/cka_matrix"].to_dataset()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))[:21].view(3, 7).numpy()
    x, y = features["a/clean/conv1"], features["b/clean/head"]

    def averaged(p: np.ndarray, q: np.ndarray) -> float:
        return np.mean([hsic_1(p[b] @ p[b].T, q[b] @ q[b].T) for b in order])

    expected = averaged(x, y) / np.sqrt(averaged(x, x) * averaged(y, y))
    value = found.cka.sel(condition="clean", site="conv1", other="b/clean/head")
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "settings", [{}, {"batch_size": 5}, {"minibatch": 4}, {"minibatch": 11}, {"estimator": "biased"}]
)
def test_identical_representations_have_one_at_any_batch_size(setting, settings):
    """Two copies of one network, and a perturbation that changes nothing."""
    models, data, *_ = setting
    twins = {"one": models["a"], "two": seeded(ConvNet).double()}
    tree = cka(twins, data, {"same": lookup(data.inputs)}, **settings)
    found = tree["one/cka_matrix"]["cka"].sel(condition="clean")
    for site in SITES:
        for other in (f"one/clean/{site}", f"two/clean/{site}", f"one/same/{site}", f"two/same/{site}"):
            if "same" in other and "minibatch" in settings:
                continue  # the lookup is by place, and minibatches are shuffled
            np.testing.assert_allclose(found.sel(site=site, other=other), 1, rtol=1e-12)
    assert found.max() <= 1


def test_batch_size_and_memory_change_nothing(setting):
    models, data, perturbations, _ = setting
    whole = cka(models, data, perturbations, batch_size=N)
    for settings in ({"batch_size": 1}, {"batch_size": 5}, {"memory": "120KB"}):
        assert_same(cka(models, data, perturbations, **settings), whole, 1e-9)


@pytest.mark.parametrize("settings", [{}, {"minibatch": 6}, {"estimator": "biased"}])
def test_rotation_and_scale_of_a_layer_change_nothing(settings):
    weight, data = torch.randn(20, 90, dtype=torch.float64), images(N)
    rotation, _ = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))
    ways = {"as is": (weight, 0.0), "rotated": (rotation @ weight, 0.0), "scaled": (-1e3 * weight, 7.0)}
    models = {name: nn.Sequential(nn.Flatten(), affine(*way)) for name, way in ways.items()}
    found = cka(models, data, **settings)["as is/cka_matrix"]["cka"].squeeze()
    np.testing.assert_allclose(found, 1, rtol=1e-9)


def test_the_order_of_the_images_does_not_matter(setting):
    models, data, *_ = setting
    one, other = (cka(models, d)["a/cka_matrix"]["cka"] for d in (data, data.select(torch.randperm(N))))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_unbiased_is_zero_on_average_for_independent_features():
    """Biased CKA of 12 images and 400 independent units is near 1; the unbiased one averages out: 200 draws of about
    0.05 spread have a mean within 0.02."""
    rng = np.random.default_rng(0)
    data = npb.data.load((torch.rand(12, 1, 40, 40), torch.arange(12) % 2))
    draws = {"unbiased": [], "biased": []}
    for _ in range(200):
        x, y = rng.normal(size=(2, 12, 400))
        for estimator, found in draws.items():
            found.append(slow(x, y, estimator))
    assert abs(np.mean(draws["unbiased"])) < 0.02 and np.mean(draws["biased"]) > 0.9
    halves = nn.ModuleDict({"left": nn.Linear(800, 400), "right": nn.Linear(800, 400)})

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.halves = halves

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = x.flatten(1).chunk(2, 1)
            return self.halves["left"](left)[:, :2] + self.halves["right"](right)[:, :2]

    found = {e: cka(Halves(), data, estimator=e)["Halves/cka_matrix"]["cka"][0, 0, 1].item() for e in draws}
    assert abs(found["unbiased"]) < 0.3 and found["biased"] > 0.7


def test_a_constant_layer_has_no_cka(setting):
    _, data, *_ = setting
    model = seeded(ConvNet).double()
    model.conv2.weight.data.zero_()
    for settings in ({}, {"minibatch": 6}, {"estimator": "biased"}):
        found = cka(model, data, **settings)["ConvNet/cka_matrix"].to_dataset()
        assert found.cka.sel(site="conv2").isnull().all() and found.cka_interval.sel(site="conv2").isnull().all()
        assert found.cka.sel(site="conv1", other="ConvNet/clean/conv1").item() == 1


def test_models_are_left_as_found(setting):
    _, data, perturbations, _ = setting
    net = ConvNet().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    cka(net, data, perturbations)
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_results_are_kept_in_a_file(setting, tmp_path):
    models, data, perturbations, _ = setting
    npb.save_results(tree := cka(models, data, perturbations), tmp_path / "cka.nc")
    xr.testing.assert_identical(npb.open_results(tmp_path / "cka.nc"), tree)
    assert list(tree["a"].children) == ["accuracy", "cka_matrix"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "debiased"}, "unknown CKA estimator 'debiased'"),
        ({"minibatch": 3}, "minibatch=3: give 4 to 24"),
        ({"minibatch": 25}, "minibatch=25: give 4 to 24"),
        ({"minibatch": 8, "estimator": "biased"}, "minibatches need estimator='unbiased'"),
        ({"memory": "50KB"}, r"the 6 Gram matrices of 24 images need .* memory=50KB: take fewer images"),
        ({"sites": "conv3"}, "conv3"),
    ],
)
def test_mistakes_are_told_before_any_work(setting, settings, message):
    models, data, *_ = setting
    with pytest.raises(NetprobeError, match=message):
        cka(models, data, **settings)


def test_too_few_images():
    with pytest.raises(NetprobeError, match="CKA needs 4 images or more; these are 3"):
        cka(seeded(ConvNet).double(), images(3))

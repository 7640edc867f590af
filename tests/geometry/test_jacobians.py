"""Norms of Jacobians against autograd's own, one image at a time, and against closed forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from netprobe import data
from netprobe.errors import NetprobeError
from netprobe.geometry import jacobian_norms
from netprobe.geometry.jacobians import SITES
from netprobe.models import digits_cnn
from netprobe.models.shallow import shallow

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=12)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return shallow(in_features=64, hidden=30, power=4.5).double().eval()


def reference(function, x):
    """Both norms of every image's Jacobian, from all of it."""
    each = [torch.autograd.functional.jacobian(function, one[None]).flatten(2)[0, :, :].flatten(1) for one in x]
    flat = [j.reshape(j.shape[0], -1) for j in each]
    return np.array([[float(j.norm()), float(torch.linalg.matrix_norm(j, 2))] for j in flat]).T


@pytest.mark.parametrize("method", ["auto", "estimate"])
def test_norms_are_those_of_autograds_jacobian(network, digits, method):
    found = jacobian_norms(network, digits, "hidden,relu,linear", method=method, draws=400, tolerance=1e-4, **QUIET)
    x = digits.inputs.double()
    for site, end in (("hidden", 3), ("relu", 4), ("linear", 5)):
        frobenius, operator = reference(nn.Sequential(*list(network)[:end]), x)
        here = found.sel(site=site)
        np.testing.assert_allclose(here["operator"], operator, rtol=1e-6)  # errors are squares of 1e-4
        if method == "auto":
            np.testing.assert_allclose(here["frobenius"], frobenius, rtol=1e-6)
            assert (here["frobenius_error"] == 0).all()
        else:  # 36 numbers: five standard errors are never exceeded
            assert (np.abs(here["frobenius"] - frobenius) < 5 * here["frobenius_error"]).all()
            assert (here["frobenius_error"] < 0.2 * frobenius).all()
        assert here["frobenius_method"] == ("exact" if method == "auto" else "estimate")
        np.testing.assert_allclose(here["mean_operator"], operator.mean(), rtol=1e-6)
        low, high = here["mean_frobenius_interval"].values
        assert low < here["mean_frobenius"] < high


def test_closed_form_of_the_rectified_layer(network, digits):
    """||J||_F^2 = sum_mu (n ReLU(h)^(n - 1))^2 ||W_mu||^2 behind the rescaling of the input."""
    found = jacobian_norms(network, digits, "hidden,relu", wrt="scale", **QUIET)
    x = digits.inputs.double().flatten(1)
    h = (x / torch.linalg.vector_norm(x, 3, dim=1, keepdim=True)) @ network.hidden.weight.T
    slopes = 4.5 * h.clamp_min(0) ** 3.5
    expected = (slopes.square() @ network.hidden.weight.square().sum(1)).sqrt()
    np.testing.assert_allclose(found["frobenius"].sel(site="relu"), expected.detach(), rtol=1e-10)
    weight = network.hidden.weight.detach()
    np.testing.assert_allclose(found["frobenius"].sel(site="hidden"), float(weight.norm()), rtol=1e-10)
    np.testing.assert_allclose(found["operator"].sel(site="hidden"), float(torch.linalg.matrix_norm(weight, 2)))
    assert found.attrs["wrt"] == "scale"


def test_the_estimator_tends_to_the_closed_form(network):
    """2000 draws on 8 images: the relative error of the mean square is about 0.3 %; 1 % is three times that."""
    few = data.load("digits", limit=8)
    exact = jacobian_norms(network, few, "relu", wrt="scale", **QUIET)["frobenius"].values
    found = jacobian_norms(network, few, "relu", wrt="scale", method="estimate", draws=2000, **QUIET)
    np.testing.assert_allclose((found["frobenius"].values ** 2).mean(), (exact**2).mean(), rtol=0.01)


def test_standard_errors_are_those_of_repeated_estimates(network):
    one = data.load("digits", limit=1)
    runs = [jacobian_norms(network, one, "relu", method="estimate", draws=50, seed=s, **QUIET) for s in range(60)]
    spread = np.std([float(run["frobenius"].item()) for run in runs])
    claimed = np.mean([float(run["frobenius_error"].item()) for run in runs])
    assert claimed == pytest.approx(spread, rel=0.3)  # the spread of 60 has a standard error of 9 %


@pytest.mark.parametrize("method", ["exact", "estimate"])
def test_batches_and_order_make_no_difference(digits, method):
    torch.manual_seed(0)
    model = digits_cnn().eval()
    options = {"sites": "conv1,relu2,linear", "method": method, "draws": 9} | QUIET
    whole = jacobian_norms(model, digits, batch_size=12, **options)
    parts = jacobian_norms(model, digits, batch_size=5, **options)
    for name in ("frobenius", "operator", "frobenius_error"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=2e-3 if name == "operator" else 1e-4, atol=1e-6)
    if method == "exact":  # draws belong to places in the data
        back = jacobian_norms(model, digits.select(list(range(12))[::-1]), **options)
        np.testing.assert_allclose(back["frobenius"].values[:, ::-1], whole["frobenius"], rtol=1e-4)


class Overwriting(nn.Module):
    """Writes into its input and into what it has just computed."""

    def __init__(self):
        super().__init__()
        self.flatten, self.linear, self.relu = nn.Flatten(), nn.Linear(64, 5), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.linear(self.flatten(x).mul_(2)))


def test_operations_in_place(digits):
    model = Overwriting().double().eval()
    found = jacobian_norms(model, digits, "linear,relu,input", **QUIET)
    weight = 2 * model.linear.weight.detach()
    np.testing.assert_allclose(found["frobenius"].sel(site="linear"), float(weight.norm()))
    on = model.linear(2 * digits.inputs.double().flatten(1)) > 0
    expected = (on.double() @ weight.square().sum(1)).sqrt()
    np.testing.assert_allclose(found["frobenius"].sel(site="relu"), expected)
    np.testing.assert_allclose(found["operator"].sel(site="input"), 1)  # the identity


class Rounded(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), nn.Linear(4, 3)

    def forward(self, x):
        with torch.no_grad():
            codes = self.body(x).round()
        return self.head(codes)


def test_no_gradient_is_no_number(digits):
    found = jacobian_norms(Rounded(), digits, "head", **QUIET)
    assert np.isnan(found["frobenius"]).all()
    assert np.isnan(found["mean_operator_interval"]).all()
    assert "has no gradient" in str(found["note"].item())


def test_a_map_that_vanishes(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU()).eval()
    with torch.no_grad():
        model[1].bias.fill_(-100)
    found = jacobian_norms(model, digits, "2", method="estimate", **QUIET)
    assert (found["frobenius"] == 0).all()
    assert (found["operator"] == 0).all()


def test_the_model_is_left_as_it_was(digits):
    model = digits_cnn().train()
    before, hooks = copy.deepcopy(model.state_dict()), [len(m._forward_hooks) for m in model.modules()]
    state = torch.get_rng_state()
    jacobian_norms(model, digits, wrt="conv1", sites="relu2,linear", **QUIET)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_default_sites_fit_every_network(digits):
    assert list(jacobian_norms(shallow(in_features=64, hidden=8), digits, **QUIET)["site"].values) == [
        "hidden",
        "relu",
        "linear",
    ]
    assert SITES == "weighted,activation"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "exactly"}, "did you mean 'exact'"),
        ({"draws": 1}, "give 2 or more"),
        ({"tolerance": 0}, "between 0 and 1"),
        ({"sites": "hiden"}, "hidden"),
        ({"wrt": "scal"}, "scale"),
        ({"wrt": "linear,relu"}, "name one"),
        ({"wrt": "hidden:in"}, "called once and returns one tensor"),
    ],
)
def test_mistakes_are_named(options, message, network, digits):
    with pytest.raises(NetprobeError, match=message):
        jacobian_norms(network, digits, **(options | QUIET))

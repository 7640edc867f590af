"""The Jacobian's norm: closed forms, projections, and both against the Jacobian itself."""

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap

from netprobe.defenses.regularisers import Jacobian, Subject
from netprobe.defenses.regularisers.closed import ClosedForm
from netprobe.defenses.regularisers.jacobian import Projected
from netprobe.errors import NetprobeError
from netprobe.models.shallow import shallow


def network(power=1.0, p=3.0):
    torch.manual_seed(0)
    return shallow(3, 12, hidden=7, p=p, power=power).double()


@pytest.fixture
def x():
    return torch.rand(8, 3, 2, 2, dtype=torch.float64)


def convolutional(activation=None):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=2, bias=True)
    return nn.Sequential(conv, activation or nn.GELU(), nn.Flatten(), nn.Linear(16, 3)).double()


def true_norm(function, x):
    """1/B sum_b ||d function(x)_b / d x_b||_F^2, from the whole Jacobian."""
    jacobians = vmap(jacrev(lambda one: function(one[None]).flatten()))(x)
    return jacobians.square().flatten(1).sum(1).mean()


def upto(model, name):
    modules = list(model.named_children())
    last = [child for child, _ in modules].index(name)
    return nn.Sequential(*(module for _, module in modules[: last + 1]))


def made(spec, model, x):
    """The penalty of the one site."""
    (part,) = spec.penalty(Subject(model, x, len(x), len(x))).parts
    return part


def test_of_the_scaled_input_a_shallow_pre_activation_is_the_encoders_frobenius_norm(one_step, x):
    model = network()
    value = one_step("jacobian:site=hidden,wrt=scaled", model, x)
    torch.testing.assert_close(value, model.hidden.weight.square().sum())
    (gradient,) = torch.autograd.grad(value, model.hidden.weight)
    torch.testing.assert_close(gradient, 2 * model.hidden.weight.detach())


def test_of_the_networks_own_input_the_scaling_is_part_of_the_jacobian(one_step, x):
    model = network()
    value = one_step("jacobian:site=hidden,projections=0", model, x)
    torch.testing.assert_close(value, true_norm(upto(model, "hidden"), x))
    assert abs(value / model.hidden.weight.square().sum() - 1) > 0.1
    assert isinstance(made(Jacobian(site="hidden"), model, x), Projected)
    assert isinstance(made(Jacobian(site="hidden"), network(p=None), x), ClosedForm)  # nothing scales: it is known


@pytest.mark.parametrize("power", [1.0, 4.5])
def test_after_the_activation_the_closed_form_is_the_jacobian(power, one_step, x):
    model = network(power)
    assert isinstance(made(Jacobian(site="relu", wrt="scaled"), model, x), ClosedForm)
    value = one_step("jacobian:site=relu,wrt=scaled", model, x)
    scaled = model.scale(x.flatten(1))
    torch.testing.assert_close(value, true_norm(nn.Sequential(model.hidden, model.relu), scaled))
    by_units = one_step("jacobian:site=relu,wrt=scaled,closed=false,projections=0", model, x)
    torch.testing.assert_close(value, by_units)
    h = scaled @ model.hidden.weight.T
    slope = power * h.relu().pow(power - 1) * (h > 0)
    torch.testing.assert_close(value, (slope.square() @ model.hidden.weight.square().sum(1)).mean())


@pytest.mark.parametrize("site", ["0", "1"])
def test_convolutions_have_closed_forms_with_their_padding_and_stride(site, one_step, x):
    model = convolutional()
    assert isinstance(made(Jacobian(site=site), model, x), ClosedForm)
    reference = true_norm(model[: int(site) + 1], x)
    torch.testing.assert_close(one_step(f"jacobian:site={site}", model, x), reference)
    torch.testing.assert_close(one_step(f"jacobian:site={site},closed=false,projections=0", model, x), reference)


@pytest.mark.parametrize("wrt", ["input", "scaled"])
def test_activations_that_work_in_place_change_nothing(wrt, one_step, x):
    kept, overwritten = (convolutional(nn.ReLU(inplace=inplace)) for inplace in (False, True))
    for site in ("0", "1", "3"):
        spec = f"jacobian:site={site},wrt={wrt},projections=0"
        torch.testing.assert_close(one_step(spec, overwritten, x), one_step(spec, kept, x))


def test_a_variable_that_is_overwritten_is_refused(one_step, x):
    with pytest.raises(NetprobeError, match="overwritten in place"):
        one_step("jacobian:site=3,wrt=0", convolutional(nn.ReLU(inplace=True)), x)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.Tanh(), nn.BatchNorm2d(3)])
def test_there_is_no_closed_form_behind_a_layer_that_does_something(layer, x):
    model = nn.Sequential(layer, *convolutional()).double()
    assert isinstance(made(Jacobian(site="1"), model, x), Projected)
    assert isinstance(made(Jacobian(site="1", wrt="scaled"), model, x), ClosedForm)


def test_there_is_none_behind_a_function_that_drops_either(x):
    class Dropping(nn.Sequential):
        def forward(self, x):
            return super().forward(nn.functional.dropout(x, 0.5, self.training))

    assert isinstance(made(Jacobian(site="0"), Dropping(*convolutional()), x), Projected)


def test_projections_are_unbiased(one_step, x):
    """Mean of 2000 projections of 8 samples: they vary by 60 % each, so by 60 / sqrt(16000) = 0.5 % together."""
    model, generator = network(), torch.Generator().manual_seed(0)
    spec = "jacobian:site=relu,wrt=scaled,closed=false,projections=2000"
    estimate = one_step(spec, model, x, generator)
    torch.testing.assert_close(estimate, one_step("jacobian:site=relu,wrt=scaled", model, x), rtol=0.02, atol=0)


def test_directions_are_unit_vectors_of_every_sample_with_one_spread_over_the_sphere(x):
    penalty = made(Jacobian(site="hidden"), network(), x)
    z = torch.zeros(4000, 3, dtype=torch.float64)
    (w,) = list(Projected(penalty.site, penalty.variable, 1)._directions(z, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(w.norm(dim=1), torch.ones(4000, dtype=torch.float64))
    covariance = w.T @ w / 4000
    assert (covariance - torch.eye(3) / 3).abs().max() < 4 * (4 / 45 / 4000) ** 0.5  # 4 sd of the mean of w_1^2
    assert (w.mean(0)).abs().max() < 4 * (1 / 3 / 4000) ** 0.5


@pytest.mark.parametrize("closed", ["true", "false"])
@pytest.mark.parametrize("site", ["relu", "linear"])
def test_it_can_be_differentiated_again(closed, site, one_step, x):
    model = network(power=4.5)
    spec = f"jacobian:site={site},projections=0,closed={closed}"

    def value(weight):
        with torch.no_grad():
            model.hidden.weight.copy_(weight)
        found = one_step(spec, model, x[:3])
        (gradient,) = torch.autograd.grad(found, model.hidden.weight)
        return found.detach(), gradient

    weight, step = model.hidden.weight.detach().clone(), 1e-6
    _, gradient = value(weight)
    for at in ((0, 0), (3, 5), (6, 11)):
        moved = torch.zeros_like(weight)
        moved[at] = step
        slope = (value(weight + moved)[0] - value(weight - moved)[0]) / (2 * step)
        torch.testing.assert_close(slope, gradient[at], rtol=1e-5, atol=1e-7)  # of central differences


def test_several_sites_add_up(one_step, x):
    model = network()
    parts = [one_step(f"jacobian:site={site},projections=0", model, x) for site in ("hidden", "linear")]
    torch.testing.assert_close(one_step("jacobian:site=hidden+linear,projections=0", model, x), sum(parts))


@pytest.mark.parametrize(
    "spec, message",
    [
        ("jacobian:site=hiden", "did you mean 'hidden'"),
        ("jacobian:site=hidden,wrt=relu", "made before"),
        ("jacobian:wrt=all", "must be one site"),
        ("jacobian:projections=-1", "0 or more"),
        ("jacobian:sites=hidden", "did you mean 'site'"),
    ],
)
def test_mistakes_are_named(spec, message, one_step, x):
    with pytest.raises(NetprobeError, match=message):
        one_step(spec, network(), x)

"""What is told of a self-consistent layer, against slow ways to get it: T set by hand, one image at a time."""

import copy

import numpy as np
import pytest
import torch
from reference_sca import energy, path
from torch import nn

from netprobe import data
from netprobe.defenses import SCADefense
from netprobe.defenses.sca import accuracy_by_steps, activation_planes, curvature, lateral_map, settling
from netprobe.errors import NetprobeError
from netprobe.models import madry_cnn, mlp
from netprobe.uncertainty import wilson

QUIET = {"progress": False}
SHIFT = {"darker": lambda model, x, y, *, generator: 0.6 * x}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=30)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = SCADefense(steps=4).build(mlp(hidden=12)).double()
    with torch.no_grad():
        network.linear1.weight *= 4
    return network.eval()


class Double(nn.Module):
    """Data is float32, the reference float64."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.double())


def test_settling_follows_the_definition(model, digits):
    found = settling(Double(model), digits, SHIFT, **QUIET)
    layer = model.linear1
    assert found.sizes["step"] == 9
    for condition, factor in (("clean", 1.0), ("darker", 0.6)):
        x = (factor * digits.inputs).double().flatten(1)
        states = [path(layer, each, 8) for each in x]
        here = found.sel(condition=condition)
        for t in range(9):
            a = torch.stack([each[t] for each in states]).detach()
            lateral = layer.lateral - torch.diag(layer.lateral.diagonal())
            away = (a - torch.relu(a @ lateral.t() + layer.lateral_bias)).norm(dim=1)
            logits = model.linear(a)
            expected = {
                "energy": torch.stack([energy(layer, *pair) for pair in zip(x, a, strict=True)]).mean(),
                "lateral": (away**2 / 2).mean(),
                "residual": (away / a.norm(dim=1)).mean(),
                "accuracy": (logits.argmax(1) == digits.labels).double().mean(),
                "probability": logits.softmax(1)[torch.arange(30), digits.labels].mean(),
                "capped": torch.tensor(0.0),
            }
            for name, value in expected.items():
                assert float(here[name].sel(step=t)) == pytest.approx(float(value.detach()), rel=1e-6), name
    np.testing.assert_allclose(found["energy"], found["lateral"] + found["reconstruction"])
    assert found.attrs["curvature"] == pytest.approx(curvature(layer))
    assert (found.attrs["steps"], found.attrs["layer"]) == (4, "net.linear1")


def test_read_outs_are_what_a_network_with_fewer_steps_says(model, digits):
    found, other = settling(Double(model), digits, steps=6, **QUIET), copy.deepcopy(model)
    for t in range(7):
        other.linear1.steps = t
        right = int((other(digits.inputs.double()).argmax(1) == digits.labels).sum())
        assert float(found["accuracy"].sel(step=t).item()) == right / 30
        np.testing.assert_allclose(found["accuracy_interval"].sel(step=t)[0], wilson(right, 30))


def test_the_model_is_left_as_it_was(model, digits):
    before, training = copy.deepcopy(model.state_dict()), copy.deepcopy(model).train()
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in training.modules()]
    settling(Double(training), digits, {"pgd": "pgd:eps=0.1,steps=2"}, **QUIET)
    activation_planes(Double(training), digits, **QUIET)
    accuracy_by_steps(Double(training), digits, steps=(0, 9), **QUIET)
    assert training.linear1.steps == 4
    assert all(module.training for module in training.modules())
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in training.modules()] == hooks
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())


def test_the_energy_of_an_image_is_the_sum_over_its_patches():
    torch.manual_seed(0)
    network = SCADefense(steps=2, patch=2, cap=1e-3).build(madry_cnn()).eval()
    images = data.load((torch.rand(3, 1, 28, 28), torch.tensor([0, 1, 0])))
    found = settling(network, images, **QUIET).sel(condition="clean")
    layer, x = network.conv1, images.inputs
    with torch.no_grad():
        rows, _ = layer.rows(x)
        expected = [layer.energies(rows, a)["energy"].sum() / 3 for a, _ in layer.trajectory(x, 4)]
    np.testing.assert_allclose(found["energy"], torch.stack(expected), rtol=1e-5)
    np.testing.assert_array_equal(found["capped"], [0, 1, 1, 1, 1])


def test_accuracy_by_steps_of_one_network_and_of_several(model, digits):
    one = accuracy_by_steps(Double(model), digits, SHIFT, steps=(0, 2, 4), **QUIET)
    networks = {}
    for steps in (0, 2, 4):
        networks[steps] = copy.deepcopy(model)
        networks[steps].linear1.steps = steps
    several = accuracy_by_steps({steps: Double(net) for steps, net in networks.items()}, digits, SHIFT, **QUIET)
    assert (one.attrs["varied"], several.attrs["varied"]) == ("test", "training")
    for condition, factor in (("clean", 1.0), ("darker", 0.6)):
        for steps, network in networks.items():
            x = (factor * digits.inputs).double()
            right = int((network(x).argmax(1) == digits.labels).sum())
            for found in (one, several):
                here = found.sel(condition=condition, steps=steps)
                assert float(here["accuracy"]) == right / 30
                np.testing.assert_allclose(here["accuracy_interval"], wilson(right, 30))


def test_perturbations_are_made_for_the_network_with_that_many_steps(model, digits):
    seen = []

    def looking(network, x, y, *, generator):
        seen.append(network.net.linear1.steps)
        return x

    accuracy_by_steps(Double(model), digits, {"looking": looking}, steps=(1, 9), **QUIET)
    assert seen == [1, 9]


@pytest.mark.parametrize("units", [12, 4])
def test_the_plane_is_that_of_the_two_largest_components(units, digits):
    torch.manual_seed(0)
    network = SCADefense(steps=4).build(mlp(hidden=units)).double().eval()
    found = activation_planes(Double(network), digits, SHIFT, steps=(0, 2, 5), **QUIET)
    x = digits.inputs.double().flatten(1)
    paths = [[path(network.linear1, factor * each, 5) for each in x] for factor in (1.0, 0.6)]
    rows = torch.stack([each[t] for images in paths for t in (0, 2, 5) for each in images]).detach().numpy()
    centred = rows - rows.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found["explained"], sizes[:2] ** 2 / (sizes**2).sum(), rtol=1e-6)
    flat = found["coordinate"].values.reshape(-1, 2)
    np.testing.assert_allclose(np.abs(flat), np.abs(centred @ axes[:2].T), atol=1e-6 * sizes[0])
    assert found["coordinate"].dims == ("condition", "step", "image", "axis")
    assert list(found["step"].values) == [0, 2, 5]
    np.testing.assert_array_equal(found["label"], digits.labels)


def test_the_map_is_of_the_masked_weights(model):
    found = lateral_map(model)
    expected = model.linear1.lateral.detach().clone().fill_diagonal_(0).numpy()
    np.testing.assert_array_equal(found["weight"], expected)
    sizes = np.abs(expected[~np.eye(12, dtype=bool)])
    np.testing.assert_allclose(found["size"].sel(share=[0.5, 1]), [np.median(sizes), sizes.max()])
    some = lateral_map(model, most=5)
    units = some["unit"].values
    assert (units[0], units[-1], len(units), some.attrs["units"]) == (0, 11, 5, 12)
    np.testing.assert_array_equal(some["weight"], expected[units][:, units])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: settling(mlp(), d), "has no self-consistent layer"),
        (lambda m, d: settling(m, d, steps=-1), "give 0 or more"),
        (lambda m, d: settling(m, d, layer="linear7"), "unknown self-consistent layer 'linear7'"),
        (lambda m, d: settling(m, d, {"clean": "gaussian:std=0.1"}), "no perturbation may be called 'clean'"),
        (lambda m, d: settling(m, d, {"pgd": "pgdd:eps=0.1"}), "did you mean 'pgd'"),
        (lambda m, d: activation_planes(m, d, steps=()), "give some numbers of steps"),
        (lambda m, d: lateral_map(m, most=0), "give 1 or more"),
        (lambda m, d: accuracy_by_steps(mlp(), d), "has no self-consistent layer"),
    ],
)
def test_mistakes_are_named(call, message, digits):
    with pytest.raises(NetprobeError, match=message):
        call(SCADefense(steps=2).build(mlp(hidden=8)), digits)


class Twice(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x) + self.net(1 - x)


def test_a_layer_that_runs_twice_has_no_single_story(digits):
    with pytest.raises(NetprobeError, match="ran 2 times in a pass"):
        settling(Twice(SCADefense(steps=2).build(mlp(hidden=8))), digits, **QUIET)

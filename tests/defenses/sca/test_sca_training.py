"""Training with a self-consistent layer: settings, recipe, history, checkpoints, controls, and what is learnt."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import netprobe as npb
from netprobe import data
from netprobe.defenses import SCADefense, parse_defense
from netprobe.defenses.sca import curvature, self_consistent, settling
from netprobe.errors import NetprobeError
from netprobe.models import mlp
from netprobe.recipes import preset
from netprobe.training import fit

ADAM = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "constant", "patience": 0}
ADAM |= {"progress": False}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train")


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A small net: 10 epochs of 64 units in a few seconds."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("sca")
    return fit("sca:steps=8", mlp(hidden=64), digits, out=out, epochs=10, batch_size=32, validation=0.1, **ADAM)


def test_the_defaults_are_those_of_the_public_code():
    ours = SCADefense()
    assert (ours.steps, ours.eta, ours.lam, ours.cap, ours.dropout) == (16, 0.25, 0.3, 10, 0.2)
    recipe = preset("paper", ours, "mlp", (1, 28, 28))
    assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.momentum) == ("adam", 1e-3, 5e-5, 0.9)
    assert (recipe.schedule, recipe.gamma, recipe.plateau_patience, recipe.criterion) == ("plateau", 0.5, 5, "loss")
    assert (recipe.epochs, recipe.patience, recipe.batch_size, recipe.augment) == (100, 20, 256, "none")
    assert round(60_000 * recipe.validation) == 10_000
    assert preset("paper", ours, "words_mlp", (8000,)) == recipe


def test_the_networks_of_the_paper_have_their_parameters():
    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    base, wide = mlp(in_features=784, hidden=2048), mlp(in_features=784, hidden="2048,384,2048,2048", dropout=0.2)
    assert count(SCADefense().build(base)) == 7_430_938
    assert count(wide) == 7_399_818
    assert [type(layer) for layer in wide][1:4] == [nn.Linear, nn.ReLU, nn.Dropout]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("steps=-1", "steps must be a whole number, 0 or more"),
        ("eta=-0.1", "eta must be a number in"),
        ("cap=0", "cap must be a number between"),
        ("dropout=2", "dropout must be a number in"),
        ("warm_up=slow", "unknown SCADefense.warm_up 'slow'"),
        ("warm_up_from=0", "warm_up_from must be a number between"),
        ("warm_up_epochs=0", "warm_up_epochs must be a whole number, 1"),
        ("patch=0", "patch must be a whole number, 1"),
        ("layer=3", "layer must be a name"),
        ("lambda=1", "did you mean 'lam'"),
    ],
)
def test_mistakes_in_settings_are_named(settings, message):
    with pytest.raises(NetprobeError, match=message):
        parse_defense(f"sca:{settings}")


def test_a_mistaken_layer_is_named_before_training(digits):
    with pytest.raises(NetprobeError, match="unknown linear layer or convolution 'conv7'"):
        fit("sca:layer=conv7", "digits_cnn", digits, epochs=1, progress=False)


def test_the_step_size_warms_up_in_training_alone():
    geometric, linear = (SCADefense(warm_up=how, warm_up_epochs=4) for how in ("geometric", "linear"))
    np.testing.assert_allclose([geometric.step_size(e) for e in range(4)], 0.01 * 25.0 ** (np.arange(4) / 4))
    np.testing.assert_allclose([linear.step_size(e) for e in range(4)], [0.01, 0.07, 0.13, 0.19])
    assert geometric.step_size(4) is linear.step_size(9) is SCADefense().step_size(0) is None
    model, x = geometric.build(mlp(hidden=8)), torch.rand(3, 64)
    other = copy.deepcopy(model)
    other.linear1.eta, other.linear1.dropout, model.linear1.dropout = 0.01, 0.0, 0.0
    finished = model.eval()(x)
    geometric.begin_epoch(model, 0, 9)
    assert torch.equal(model(x), finished)
    assert torch.equal(model.train()(x), other(x))
    geometric.begin_epoch(model, 4, 9)
    assert torch.equal(model(x), finished)


def test_the_history_holds_the_bound_and_the_cap(trained):
    history = trained.history
    assert (history["capped"] < 0.01).all()
    last = history.isel(epoch=-1)
    assert float(last["curvature"]) == pytest.approx(curvature(trained.last.linear1), rel=1e-5)
    np.testing.assert_allclose(history["largest_safe_step"], 2 / history["curvature"])
    assert history["curvature"].attrs["units"] == "1"
    assert "lam ||V||_2^2" in history["curvature"].attrs["definition"]
    assert (history["curvature"].diff("epoch") > 0).sum() > 5  # it grows in training


def test_a_cap_that_is_hit_shows_in_the_history(digits):
    found = fit("sca:steps=2,cap=0.001", mlp(hidden=8), digits.take(64), epochs=1, validation=0, **ADAM)
    assert found.history["capped"].item() == 1


def test_the_checkpoint_loads_alone(trained, digits, tmp_path):
    with pytest.raises(NetprobeError, match="which would run code to build"):
        npb.load(trained.folder / "best.pt")  # the network was the user's own
    named = fit("sca:steps=3,layer=linear2", "mlp", digits.take(64), epochs=1, validation=0.2, out=tmp_path, **ADAM)
    again = npb.load(tmp_path / "best.pt")
    x = digits.inputs[:9]
    with torch.no_grad():
        assert torch.equal(again(x), named.model(x))
    assert self_consistent(again)[0] == "linear2"
    assert again.linear2.steps == 3


def test_a_convolution_of_a_network_by_name_is_trained_and_loads(digits, tmp_path):
    images = data.load((torch.rand(24, 1, 28, 28), torch.arange(24) % 3))
    found = fit(
        "sca:steps=2,patch=2", "madry_cnn", images, epochs=1, batch_size=8, validation=0.25, out=tmp_path, **ADAM
    )
    again, x = npb.load(tmp_path / "best.pt"), images.inputs[:5]
    with torch.no_grad():
        torch.testing.assert_close(again(x), found.model(x))
    assert self_consistent(again)[0] == "conv1"
    assert again.conv1.units == 128


def test_words_are_trained_through_their_front_end(tmp_path):
    torch.manual_seed(0)
    words = data.Data(0.1 * torch.randn(24, 1000), torch.arange(24) % 3, ("a", "b", "c"), "noise", sample_rate=8000)
    found = fit("sca:steps=2", "words_mlp", words, epochs=1, batch_size=8, validation=0.25, out=tmp_path, **ADAM)
    assert found.model.linear1.in_features == 16 * 32
    point = words.inputs[:2].requires_grad_()
    npb.load(tmp_path / "best.pt")(point).sum().backward()
    assert point.grad.abs().max() > 0


def test_training_goes_on_bit_for_bit(digits, tmp_path, stopped_after):
    torch.manual_seed(5)
    model = mlp(hidden=8)
    how = {"epochs": 4, "batch_size": 16, "validation": 0.2, "seed": 3} | ADAM
    spec, some = "sca:steps=2,warm_up=linear", digits.take(96)
    whole = fit(spec, model, some, out=tmp_path / "whole", **how)
    with stopped_after(2):
        fit(spec, model, some, out=tmp_path / "parts", **how)
    parts = fit(spec, model, some, out=tmp_path / "parts", **how)
    for name, value in whole.last.state_dict().items():
        assert torch.equal(value, parts.last.state_dict()[name]), name


def test_the_control_without_steps_is_the_plain_network_with_dropout(digits):
    """The weights that count, bit for bit: C and V move by nothing at all without decay."""
    torch.manual_seed(0)
    plain = mlp(hidden=16, dropout=0.2)
    other = mlp(hidden=16)
    other.load_state_dict(plain.state_dict())
    how = {"epochs": 3, "batch_size": 32, "validation": 0.1} | ADAM
    natural, control = fit("natural", plain, digits, **how), fit("sca:steps=0", other, digits, **how)
    weights = natural.last.state_dict()
    for name, value in control.last.state_dict().items():
        if name in weights:
            assert torch.equal(value, weights[name]), name
    assert set(weights) < set(control.last.state_dict())


def test_check_12_it_overfits(digits):
    how = {"epochs": 60, "batch_size": 64, "validation": 0} | ADAM | {"lr": 3e-3}
    found = fit("sca:steps=4,dropout=0", mlp(hidden=128), digits.take(256), **how)
    assert found.history["accuracy"][-1] > 0.99


def test_check_13_the_trained_layer_is_more_consistent_after_its_steps(trained):
    found = settling(trained.model, data.load("digits", "test"), progress=False)["residual"].sel(condition="clean")
    assert float(found.sel(step=8)) < float(found.sel(step=0))


def test_check_5_energy_never_rises_in_the_trained_layer_at_a_safe_step(trained):
    model = copy.deepcopy(trained.model).double()
    bound = curvature(model.linear1)
    model.linear1.eta = 0.99 * 2 / bound
    x = data.load("digits", "test").inputs[:100].double().flatten(1)
    with torch.no_grad():
        found = torch.stack([model.linear1.energies(x, a)["energy"] for a, _ in model.linear1.trajectory(x, 60)])
    assert (found.diff(dim=0) <= 1e-12 * found[:-1]).all()
    assert (found[60] < found[0]).all()


def test_it_can_be_trained_adversarially_as_a_network_of_ones_own(digits):
    """A defense of any kind takes the converted network."""
    network = SCADefense(steps=3).build(mlp(hidden=16))
    found = fit("pgd-at:eps=0.1,steps=2", network, digits.take(128), epochs=1, batch_size=32, validation=0.2, **ADAM)
    assert self_consistent(found.model)[1].steps == 3


def test_reports_show_how_activations_settle(trained, digits):
    views = trained.results("sca", digits)["sca"]
    assert set(views.children) == {"history", "settling", "lateral"}
    assert views["settling"].sizes["step"] == 17
    assert list(views["settling"]["condition"].values) == ["clean", "pgd"]

"""Training on a locally learnt layer: from `fit` to a checkpoint that loads by its path, whatever kills it."""

from __future__ import annotations

import multiprocessing
import random
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import netprobe as npb
from netprobe import data
from netprobe.defenses import KrotovHopfieldDefense, parse_defense
from netprobe.defenses.krotov_hopfield import learning, local_layer, scaled_eps, unpruned
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.recipes import preset
from netprobe.store.scratch import Scratch
from netprobe.training.initial import initial

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["netprobe.training", "netprobe.data", "netprobe.models"])

EASY = "krotov-hopfield:local_lr=0.1,local_epochs=60,local_batch=20,converged=0.5"
TRAINING = {"epochs": 8, "batch_size": 25, "lr": 0.02, "validation": 0.2, "progress": False}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=300)


def network(digits, **arguments):
    return initial("shallow", digits, 0, hidden=10, **arguments)


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    return npb.fit(EASY, network(digits), digits, out=folder / "run", **TRAINING), folder / "run"


def test_the_layer_is_learnt_first_and_the_decoder_alone_then(run):
    trained, folder = run
    begun, ended = (torch.load(folder / name, weights_only=True)["state_dict"] for name in ("best.pt", "last.pt"))
    assert torch.equal(begun["hidden.weight"], ended["hidden.weight"])
    assert not torch.equal(ended["linear.weight"], network(data.load("digits", "train", limit=300)).linear.weight)
    _, layer = local_layer(trained.last)
    assert layer.made()[-1, 0] >= 0.5 and not layer.weight.requires_grad and layer.weight.grad is None
    assert trained.history["loss"][-1] < 0.8 * trained.history["loss"][0]
    assert float(trained.history["validation_accuracy"].max()) > 0.4  # chance is 0.1


def test_gradients_reach_the_decoder_and_the_input_alone(run, digits):
    model = run[0].last
    x = digits.inputs[:20].requires_grad_()
    cross_entropy(model(x), digits.labels[:20]).backward()
    assert model.linear.weight.grad.any() and model.hidden.weight.grad is None and x.grad.any()


def test_the_history_says_how_learning_ended(run):
    trained, _ = run
    _, layer = local_layer(trained.last)
    for name, value in (("converged", layer.made()[-1, 0]), ("winning", layer.made()[-1, 2])):
        np.testing.assert_allclose(trained.history[name], value)
    np.testing.assert_allclose(trained.history["pruned"], 1 - layer.kept.double().mean())
    assert trained.history["pruned"].attrs["long_name"] == "pruned units"


def test_a_checkpoint_is_all_that_is_needed(run, digits):
    trained, folder = run
    loaded, x = npb.load(folder / "best.pt"), digits.inputs[:9]
    with torch.no_grad():
        assert torch.equal(loaded(x), trained.model(x))
    assert loaded.relu.power == 4.5 and not (folder / "preparing.pt").exists()


def test_going_on_does_not_learn_again(run, digits, monkeypatch):
    trained, folder = run
    monkeypatch.setattr(learning.Learner, "step", lambda *_: pytest.fail("it learns again"))
    again = npb.fit(EASY, network(digits), digits, out=folder, **TRAINING)
    assert all(torch.equal(value, again.last.state_dict()[name]) for name, value in trained.last.state_dict().items())


def test_what_is_prepared_is_of_this_training_alone(digits, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def stopping(self):
        keep(self)
        raise Stopped

    keep = learning._Course.keep
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(learning._Course, "keep", stopping)
        npb.fit(EASY, network(digits), digits, out=tmp_path, **TRAINING)
    with pytest.raises(CheckpointError, match=r"preparing\.pt is of another training"):
        npb.fit(EASY.replace("0.1", "0.2"), network(digits), digits, out=tmp_path, **TRAINING)


def train(folder):
    """In a process of its own; with `save_every` 0 it saves at every look."""
    from netprobe.training import loop

    torch.set_num_threads(1)
    loop.LOOK_EVERY = learning.LOOK_EVERY = 0.01
    digits = data.load("digits", "train", limit=300)
    npb.fit(EASY, network(digits), digits, out=folder, save_every=0.0, **TRAINING)


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    """kill -9, in local learning and in training."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    process = FORKS.Process(target=train, args=(whole,))
    process.start()
    process.join()
    chance, preparing = random.Random(0), 0
    for _ in range(3):
        process = FORKS.Process(target=train, args=(parts,))
        process.start()
        before = newest(parts)
        while process.is_alive() and newest(parts) == before:
            time.sleep(0.001)
        process.join(chance.uniform(0, 0.2))
        process.kill()
        process.join()
        preparing += (parts / "preparing.pt").exists()
    assert preparing
    process = FORKS.Process(target=train, args=(parts,))
    process.start()
    process.join()
    for name in ("last.pt", "best.pt"):
        ours, theirs = (torch.load(each / name, weights_only=True)["state_dict"] for each in (parts, whole))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert not (parts / "preparing.pt").exists()


def newest(folder):
    times = [path.stat().st_mtime_ns for path in folder.glob("*.pt")] if folder.exists() else []
    return max(times, default=None)


def test_the_untrained_control_stays_at_its_start(digits):
    defense = parse_defense("krotov-hopfield:untrained=true")
    start = npb.training.initial.defended(network(digits), defense.completed(digits), 0)
    trained = npb.fit(defense, network(digits), digits, **TRAINING | {"epochs": 2})
    assert torch.equal(trained.last.hidden.weight, start.hidden.weight) and trained.last.hidden.kept.all()
    assert not torch.equal(trained.last.linear.weight, start.linear.weight)
    assert "converged" not in trained.history
    assert trained.results("control", digits)["control/prototypes/outcome"].isnull().all()


def test_a_convolution_of_a_users_network(digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10))
    spec = "krotov-hopfield:power=1,local_lr=0.1,local_epochs=20,local_batch=50,converged=0.5,patches=4"
    trained = npb.fit(spec, net, digits, **TRAINING)
    name, layer = local_layer(trained.model)
    norms = torch.linalg.vector_norm(layer.weight.flatten(1), 3, dim=1)
    assert name == "0" and ((norms - 1).abs() < 0.01).double().mean() >= 0.5
    assert float(trained.history["accuracy"][-1]) > 0.5
    seen = npb.prototypes(trained.model)
    assert seen["weight"].shape[2:] == (1, 3, 3)


def test_the_original_read_out(digits):
    defense = parse_defense("krotov-hopfield:readout=tanh,beta=0.5,exponent=6")
    torch.manual_seed(0)
    model, x, y = defense.build(network(digits)).double(), digits.inputs[:5].double(), digits.labels[:5]
    assert model.linear.bias is None
    found = defense.loss(model, x, y, generator=None, copy=model)
    expected = 0.0
    for logits, label in zip(model(x), y, strict=True):
        for unit, z in enumerate(logits):
            expected += abs(torch.tanh(0.5 * z) - (1.0 if unit == label else -1.0)) ** 6 / 5
    torch.testing.assert_close(found["loss"], expected)
    torch.testing.assert_close(found["logits"], model(x))


def test_published_settings_follow_from_the_images():
    shapes = {(3, 32, 32): (2, 0.02, 1000, 1000), (1, 28, 28): (7, 0.04, 100, 1000), (1, 8, 8): (2, 0.02, 100, 150)}
    for shape, expected in shapes.items():
        images = data.Data(torch.rand(2, *shape), torch.tensor([0, 1]), ("a", "b"), "some")
        made = KrotovHopfieldDefense().completed(images)
        assert (made.k, made.local_lr, made.local_batch, made.local_epochs) == expected
        assert made.learning.delta == 0.4 and made.p == 3 and made.radius == 1
        assert KrotovHopfieldDefense(k=3).completed(images).k == 3
        recipe = preset("paper", made, "shallow", shape)
        assert (recipe.optimizer, recipe.lr, recipe.schedule, recipe.epochs, recipe.batch_size) == (
            "adam", 1e-3, "constant", 1000, 1000,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("k=1", "k must be a whole number, 2 or more"),
        ("p=1", "p must be a number between 1"),
        ("p=0.5", "p must be a number between 1"),
        ("local_lr=0", "local_lr must be a number between 0"),
        ("delta=-0.4", "delta must be a number in"),
        ("radius=0", "radius must be a number between 0"),
        ("local_epochs=1", "local_epochs must be a whole number, 2 or more"),
        ("power=0.5", "power must be a number in"),
        ("prune=auto", "valid choices"),
        ("readout=softmax", "valid choices"),
        ("kay=2", "unknown setting"),
    ],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(NetprobeError, match=said):
        parse_defense(f"krotov-hopfield:{settings}")


@pytest.mark.parametrize(
    ("settings", "said"),
    [("k=11", "k=11 ranks 10 unit"), ("prune=fixed", "64 inputs"), ("layer=hiden", "unknown linear layer")],
)
def test_what_does_not_fit_the_network_is_said_before_any_learning(settings, said, digits, monkeypatch):
    monkeypatch.setattr(learning.Learner, "step", lambda *_: pytest.fail("it learns"))
    with pytest.raises(NetprobeError, match=said):
        npb.fit(f"krotov-hopfield:{settings}", network(digits), digits, **TRAINING)


def test_the_same_network_without_pruning(run, digits):
    model = run[0].last
    _, layer = local_layer(model)
    layer.kept[0] = False
    layer.refresh()
    whole = local_layer(unpruned(model))[1]
    assert whole.kept.all() and not layer(torch.rand(3, 64))[:, 0].any() and whole(torch.rand(3, 64))[:, 0].any()
    layer.kept[0] = True
    layer.refresh()


def test_budgets_in_both_units(digits):
    norms = (digits.inputs.double() ** 3).flatten(1).sum(1) ** (1 / 3)
    there = scaled_eps(digits, [0.1, 0.2])
    np.testing.assert_allclose(there["scaled"], [0.1 * (1 / norms).mean(), 0.2 * (1 / norms).mean()])
    np.testing.assert_allclose(there["input"], [0.1, 0.2])
    back = scaled_eps(digits, 0.05, given="scaled")
    np.testing.assert_allclose(back["input"], [0.05 * norms.mean()])
    np.testing.assert_allclose(back["input_range"], [0.05 * np.quantile(norms, [0.05, 0.95])])
    assert back.attrs["mean_norm"] == pytest.approx(norms.mean().item())
    black = data.Data(torch.zeros(2, 1, 8, 8), torch.tensor([0, 0]), ("a",), "black")
    for images, wrong, said in (
        (digits, {"given": "pixels"}, "unit of eps"),
        (digits, {"p": 0.5}, "no norm"),
        (black, {}, "2 sample.s. of black are zero"),
    ):
        with pytest.raises(NetprobeError, match=said):
            scaled_eps(images, 0.1, **wrong)


def test_prepare_keeps_nothing_without_a_place(digits):
    defense = parse_defense(EASY).completed(digits)
    model = defense.build(network(digits))
    defense.prepare(model, digits, 0, progress=False, scratch=Scratch())
    assert len(local_layer(model)[1].made()) >= 1


def test_the_published_budget_conversion(data_root):
    """Grey levels are about 2.1e3 times eps behind the division, on CIFAR-10."""
    images = data.load("cifar10-jpeg", "test", limit=500)
    found = scaled_eps(images, 1e-3, given="scaled")
    assert 255 * found["input"].item() == pytest.approx(2.1, abs=0.15)

"""`fit`: what it learns, what it leaves alone, what it refuses."""

import copy
import dataclasses
import itertools
import json
import signal
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from netprobe import data
from netprobe.defenses import Natural
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.models import digits_cnn
from netprobe.recipes import Recipe
from netprobe.training import Diverged, fit, fitting, loop
from netprobe.training.augmentation import order
from netprobe.training.optimizer import set_rates

SHORT = Recipe(epochs=2, batch_size=64, lr=0.05, schedule="step", milestones=(1,), validation=0.0, channels_last=False)


def train(model, images, defense="natural", **settings):
    return fit(defense, model, images, settings.pop("recipe", SHORT), progress=False, **settings)


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.fixture
def network():
    torch.manual_seed(0)
    return digits_cnn()


def bare_loop(model, images, epochs=2, lr=0.05, clip=None, decay=None):
    """What `fit` must equal bit for bit, as one would write it in an afternoon."""
    model = copy.deepcopy(model)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay or 0.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=2e-4, fused=True)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * 0.1**epoch
        for chosen in order(len(images), 0, epoch).split(64):
            model.train()
            loss = cross_entropy(model(images.inputs[chosen]), images.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            average.update_parameters(model)
    return model, average.module


def test_natural_training_is_the_bare_loop_to_the_last_bit(network, digits):
    expected, _ = bare_loop(network, digits)
    assert same(train(network, digits).last, expected)


def test_clipping_is_that_of_torch(network, digits):
    expected, _ = bare_loop(network, digits, clip=0.5)
    assert same(train(network, digits, clip=0.5).last, expected)


def test_the_average_of_the_weights_is_that_of_torch(network, digits):
    _, expected = bare_loop(network, digits, decay=0.5)
    trained = train(network, digits, ema=0.5)
    for name, parameter in expected.named_parameters():
        assert torch.equal(trained.last.get_parameter(name), parameter)
    assert not same(trained.last, train(network, digits).last)


@pytest.mark.parametrize("defense", ["natural", "pgd-at:eps=0.1,steps=2", "fast:eps=0.1", "trades:eps=0.1,steps=2"])
def test_the_same_seed_gives_the_same_weights_and_another_does_not(defense, network, digits):
    first, again, other = (train(network, digits, defense, epochs=1, seed=seed).last for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other)


def test_the_users_model_mode_and_random_state_stay_as_they_were(network, digits):
    before, state = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    network.train()
    train(network, digits, "pgd-at:eps=0.1,steps=2", epochs=1)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_frozen_parameters_keep_their_bytes_while_their_batch_norm_sees_the_images(optimizer, network, digits):
    frozen = {f"{name}.{part}" for name in ("conv1", "bn1") for part in ("weight", "bias")}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    trained = train(network, digits, optimizer=optimizer, weight_decay=0.1).last
    for name, parameter in trained.named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)) == (name in frozen)
        assert parameter.requires_grad == (name not in frozen)
    assert not torch.equal(trained.bn1.running_mean, network.bn1.running_mean)


def test_without_anything_to_learn_only_the_statistics_move(network, digits):
    network.requires_grad_(False)
    trained = train(network, digits).last
    assert all(torch.equal(p, network.get_parameter(name)) for name, p in trained.named_parameters())
    assert not torch.equal(trained.bn1.running_mean, network.bn1.running_mean)


def test_held_out_images_are_not_trained_on_and_tell_the_best_epoch(network, digits):
    trained = train(network, digits, epochs=4, validation=0.2, lr=0.2, schedule="constant")
    history = trained.history
    assert history.attrs["criterion"] == "validation_accuracy"
    best = int(history["validation_accuracy"].values.argmax())
    assert history.attrs["best_epoch"] == best + 1
    low, high = history["validation_accuracy_interval"][best].values
    assert low < history["validation_accuracy"][best] < high
    assert same(trained.model, trained.last) == (best == 3)


def test_given_validation_images_are_used_and_all_others_trained_on(network, digits):
    test = data.load("digits", "test", limit=50)
    trained = train(network, digits, validation=test, epochs=1)
    right = (trained.last(test.inputs).argmax(1) == test.labels).double().mean()
    assert trained.history["validation_accuracy"][0] == pytest.approx(float(right))


def test_robust_accuracy_chooses_the_best_epoch_of_adversarial_training(network, digits):
    trained = train(network, digits, "pgd-at:eps=0.1,steps=2", validation=0.2)
    assert trained.history.attrs["criterion"] == "validation_robust_accuracy"
    robust, clean = (trained.history[f"validation_{which}accuracy"] for which in ("robust_", ""))
    assert (robust <= clean).all()


def test_the_smallest_validation_loss_can_choose_the_best_epoch(network, digits):
    settings = {"epochs": 5, "validation": 0.2, "lr": 0.6, "schedule": "constant", "criterion": "loss"}
    history = train(network, digits, **settings).history
    assert history.attrs["criterion"] == "validation_loss"
    smallest = int(history["validation_loss"].values.argmin())
    assert history.attrs["best_epoch"] == smallest + 1
    assert smallest != int(history["validation_loss"].values.argmax())


def test_the_rate_of_a_plateau_falls_after_epochs_without_a_better_criterion(network, digits):
    settings = {"schedule": "plateau", "plateau_patience": 0, "lr": 1e-6, "epochs": 4, "validation": 0.2}
    lr = train(network, digits, **settings).history["lr"].values
    assert lr[-1] < lr[0] == 1e-6


@pytest.mark.parametrize("settings", [{"schedule": "plateau"}, {"patience": 3}])
def test_what_looks_at_validation_images_needs_some(settings, network, digits):
    with pytest.raises(NetprobeError, match="give validation above 0"):
        train(network, digits, **settings)


def test_a_single_image_is_refused(network, digits):
    with pytest.raises(NetprobeError, match="two images or more"):
        train(network, digits.select([0]))


def test_patience_ends_a_training_that_gets_no_better(network, digits):
    trained = train(network, digits, lr=1e-6, epochs=30, patience=2, validation=0.2, schedule="constant")
    assert trained.history.sizes["epoch"] < 30
    assert "2 epochs without a better validation_accuracy" in trained.findings[0]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_loss_that_is_no_number_stops_with_its_step_and_what_to_try(network, digits, tmp_path):
    with torch.no_grad():
        network.linear.weight[0, 0] = torch.inf
    with pytest.raises(Diverged, match=r"at step 1\. .*Try a lower lr"):
        train(network, digits, out=tmp_path)


def interrupted(monkeypatch, step, model, images, **settings):
    """A training that Ctrl-C ends before that step."""
    calls = itertools.count(1)

    def set_or_stop(*rates):
        if next(calls) == step:
            signal.raise_signal(signal.SIGINT)
        set_rates(*rates)

    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(loop, "set_rates", set_or_stop)
        train(model, images, **settings)


@pytest.mark.parametrize("interrupts", [5, 9])
def test_an_interrupted_training_goes_on_as_if_nothing_had_been(interrupts, network, digits, tmp_path, monkeypatch):
    settings = {"validation": 0.2, "ema": 0.5, "epochs": 4}
    whole = train(network, digits, out=tmp_path / "whole", **settings)
    interrupted(monkeypatch, interrupts, network, digits, out=tmp_path / "parts", **settings)
    resumed = train(network, digits, out=tmp_path / "parts", **settings)
    assert same(whole.last, resumed.last)
    assert same(whole.model, resumed.model)
    timing = ["seconds", "images_per_second"]
    assert whole.history.drop_vars(timing).equals(resumed.history.drop_vars(timing))


def test_a_finished_folder_is_not_trained_again(network, digits, tmp_path):
    first = train(network, digits, out=tmp_path)
    written = (tmp_path / "last.pt").stat().st_mtime_ns
    again = train(network, digits, out=tmp_path)
    assert (tmp_path / "last.pt").stat().st_mtime_ns == written
    assert same(first.last, again.last)
    assert same(first.model, again.model)


def test_a_training_from_before_recipes_had_a_setting_goes_on(network, digits, tmp_path, monkeypatch):
    def without_criterion(recipe, begun):
        return {name: value for name, value in dataclasses.asdict(recipe).items() if name != "criterion"}

    with monkeypatch.context() as before:
        before.setattr(fitting, "_described", without_criterion)
        interrupted(monkeypatch, 3, network, digits, out=tmp_path)
    interrupted(monkeypatch, 3, network, digits, out=tmp_path)  # what it writes now is found again
    assert same(train(network, digits).last, train(network, digits, out=tmp_path).last)
    with pytest.raises(CheckpointError, match="recipe criterion: None there, 'loss' here"):
        train(network, digits, criterion="loss", out=tmp_path)


def test_a_folder_of_another_training_is_refused_by_what_differs(network, digits, tmp_path):
    train(network, digits, out=tmp_path)
    with pytest.raises(CheckpointError, match=r"recipe lr: 0\.05 there, 0\.07 here"):
        train(network, digits, lr=0.07, out=tmp_path)
    with pytest.raises(CheckpointError, match="other initial weights"):
        train(digits_cnn(), digits, out=tmp_path)


def test_a_defense_may_record_what_it_likes_of_the_network_after_every_epoch(network, digits):
    class Watching(Natural):
        recorded: ClassVar = {"size": ("size of the weights", "1", "their L2 norm")}

        def records(self, model):
            return {"size": float(torch.cat([p.detach().flatten() for p in model.parameters()]).norm())}

    trained = fit(Watching(), network, digits, epochs=2, validation=0.2, progress=False)
    size = trained.history["size"]
    expected = torch.cat([p.detach().flatten() for p in trained.last.parameters()]).norm()
    assert float(size[-1]) == pytest.approx(float(expected))
    assert size[0] != size[1]
    assert (size.attrs["long_name"], size.attrs["units"]) == ("size of the weights", "1")


def test_history_is_written_line_by_line(network, digits, tmp_path):
    trained = train(network, digits, out=tmp_path)
    records = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert [record["loss"] for record in records] == trained.history["loss"].values.tolist()
    assert [record["lr"] for record in records] == pytest.approx([0.05, 0.005])  # of the last step of each epoch


@pytest.mark.parametrize(
    "change, message",
    [
        ({"epochs": 0}, "whole number, 1 or more"),
        ({"lr": 0}, "lr must be above 0"),
        ({"schedule": "stepped"}, "did you mean 'step'"),
        ({"learning_rate": 1}, "unknown setting of a recipe"),
        ({"milestones": "75,50"}, "must rise"),
        ({"recipe": "papers"}, "did you mean 'paper'"),
    ],
)
def test_a_mistaken_recipe_is_refused_at_once(change, message, network, digits):
    with pytest.raises(NetprobeError, match=message):
        train(network, digits, **change)


def test_a_network_that_cannot_take_the_images_is_refused_at_once(digits):
    with pytest.raises(NetprobeError, match="cannot take inputs of shape"):
        train(digits_cnn(in_channels=3), digits)
    with pytest.raises(NetprobeError, match="3 outputs for the 10 classes"):
        train(digits_cnn(num_classes=3), digits)


def test_a_named_network_gets_the_classes_and_channels_of_the_data(digits):
    trained = train("digits_cnn", digits, epochs=1)
    assert trained.model.linear.out_features == 10
    assert trained.model.conv1.in_channels == 1


def test_reduced_precision_learns_much_the_same(network, digits):
    losses = [float(train(network, digits, precision=p).history["loss"][-1]) for p in ("float32", "bfloat16")]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # bfloat16 has 8 bits

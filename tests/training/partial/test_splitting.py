"""Freezing and re-initialising, by the rules of the study."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from netprobe import models
from netprobe.errors import NetprobeError
from netprobe.models import Normalized
from netprobe.training.partial import CODES, list_layers, split
from netprobe.training.partial.splitting import fresh


def lived_in(model: nn.Module, seed: int = 3) -> nn.Module:
    """A model in which no number is what a fresh one would have."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).uniform_(0.5, 1, generator=generator))
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(torch.empty_like(buffer).uniform_(0.5, 1, generator=generator))
            elif "tracked" in name:
                buffer.fill_(77)
    return model.eval()


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return lived_in(models.digits_cnn())


def state_of(model: nn.Module, name: str) -> dict[str, torch.Tensor]:
    return model.get_submodule(name).state_dict()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("cutoff", [0, 3, "conv3", 10])
def test_freezing_and_re_initialising(trained, code, cutoff):
    before = copy.deepcopy(trained.state_dict())
    made = split(trained, code, cutoff)
    names, anew = list_layers(trained), {layer.name for layer in made.retrained}
    assert {layer.name for layer in made.frozen} == set(names) - anew
    assert all(module.training for module in made.model.modules())  # frozen batch norms go on averaging
    for name in names:
        module = made.model.get_submodule(name)
        assert all(p.requires_grad == (name in anew) and p.grad is None for p in module.parameters())
        for key, value in state_of(trained, name).items():
            now = state_of(made.model, name)[key]
            if name not in anew:
                assert torch.equal(now, value)  # weights, and statistics too
            elif key in ("running_mean", "num_batches_tracked"):
                assert not now.any()
            elif key == "running_var" or (name.startswith("bn") and key == "weight"):
                assert (now == 1).all()
            elif name.startswith("bn"):
                assert (now == 0).all()
            else:
                bound = 1 / math.sqrt(module.weight[0].numel())  # Kaiming uniform, a = sqrt(5)
                assert now.abs().max() <= bound and now.abs().max() > 0.8 * bound * (now.numel() > 50)
                assert now.unique().numel() > 0.99 * now.numel()
    assert made.trainable_parameters == sum(p.numel() for n in anew for p in trained.get_submodule(n).parameters())
    assert all(torch.equal(before[key], value) for key, value in trained.state_dict().items())
    assert not trained.training and all(p.requires_grad for p in trained.parameters())


def test_numbers_of_trainable_parameters(trained):
    """By hand: convolutions 144, 2304, 4608, 9216, 18432; batch norms 32, 32, 64, 64, 128; linear 650."""
    assert split(trained, "A1N2", 0).trainable_parameters == 35674
    assert split(trained, "A1N2", "conv4").trainable_parameters == 9216 + 64 + 18432 + 128 + 650
    assert split(trained, "N2A1", "conv4").trainable_parameters == 144 + 32 + 2304 + 32 + 4608 + 64
    assert split(trained, "A1N2", "end").trainable_parameters == split(trained, "A2N1", 0).trainable_parameters == 0
    assert split(trained, "N2A1_l", "conv2").trainable_parameters == 2304


def test_a_container_toggles_once():
    """A cut before layer3 of a ResNet leaves one border, not one at every layer whose name begins so."""
    made = split(models.resnet18(), "A1N2", "layer3")
    flags = [made.model.get_submodule(layer).weight.requires_grad for layer in list_layers(made.model)]
    assert flags == [False] * 20 + [True] * 21


def test_a_cut_inside_a_block_retrains_its_shortcut():
    made = split(models.resnet18(), "A1N2", "layer3.0.bn2")
    assert [layer.name for layer in made.frozen][-3:] == ["layer3.0.conv1", "layer3.0.bn1", "layer3.0.conv2"]
    assert made.model.get_submodule("layer3.0.shortcut.0").weight.requires_grad


def test_fresh_parameters_follow_from_seed_and_layer_alone(trained):
    ones, others = (split(trained, *how).model for how in (("A1N2", 2), ("N1A2", 4)))
    for name in ("conv3", "conv5", "linear"):
        assert torch.equal(ones.get_submodule(name).weight, others.get_submodule(name).weight)
    other_seed = split(trained, "A1N2", 2, seed=1).model
    assert not torch.equal(ones.conv3.weight, other_seed.conv3.weight)
    draws = [made.weight.flatten()[:144] * made.weight[0].numel() ** 0.5 for made in (ones.conv3, ones.conv4)]
    assert not torch.allclose(*draws)  # every layer has its own, not one stream scaled to its width


def test_the_global_random_state_is_left_alone(trained):
    before = torch.get_rng_state()
    split(trained, "A1N2", 2)
    fresh(trained, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_fresh_networks():
    one, same, other = (fresh(lived_in(models.digits_cnn(), seed), at) for seed, at in ((1, 5), (2, 5), (1, 6)))
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in one.state_dict().items())
    assert not torch.equal(one.conv1.weight, other.conv1.weight)
    assert one.training and not one.bn1.running_mean.any()


def test_what_a_model_was_frozen_to_before_does_not_count(trained):
    given = copy.deepcopy(trained).requires_grad_(False)
    assert split(given, "A1N2", "linear").trainable_parameters == 650


def test_statistics_of_a_normalisation_stay():
    made = split(Normalized(models.resnet18(), 0.3, 0.2), "A1N2", 0)
    assert float(made.model.normalize.mean) == pytest.approx(0.3)
    assert [layer.name for layer in made.retrained][:2] == ["conv1", "bn1"]


def test_a_changed_frozen_parameter_is_noticed(trained):
    made = split(trained, "A1N2", "conv3")
    after = copy.deepcopy(made.model)
    with torch.no_grad():
        after.conv4.weight.add_(1)
        after.bn1.running_mean.add_(1)
    made.check_frozen(after)
    with torch.no_grad():
        after.bn2.bias[0] = torch.nextafter(after.bn2.bias[0], torch.tensor(9.0))
    with pytest.raises(NetprobeError, match="training changed bn2, which A1N2 keeps frozen"):
        made.check_frozen(after)

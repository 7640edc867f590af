"""The linear order of layers, and where cutoffs fall."""

from __future__ import annotations

import itertools

import pytest
import torchvision
from torch import nn

from netprobe import models
from netprobe.errors import NetprobeError
from netprobe.models import Normalized
from netprobe.training.partial import list_layers
from netprobe.training.partial.layers import block_cutoffs, cutoff_at, cutoffs_of, layers_of

VGG_CONVOLUTIONS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)


def resnet18_names() -> list[str]:
    """The list of the study, written out by its rule."""
    block = ["conv1", "bn1", "conv2", "bn2"]
    names = ["conv1", "bn1"]
    for stage, number in itertools.product((1, 2, 3, 4), (0, 1)):
        shortcut = ["shortcut.0", "shortcut.1"] if stage > 1 and number == 0 else []
        names += [f"layer{stage}.{number}.{each}" for each in block + shortcut]
    return [*names, "linear"]


def blocks(model: nn.Module) -> list[str]:
    return [list_layers(model)[at] for at in block_cutoffs(model)]


def test_resnet18():
    names = list_layers(models.resnet18())
    assert len(names) == 41 and names == resnet18_names()
    kinds = [layer.kind for layer in layers_of(models.resnet18())]
    assert [kinds.count(kind) for kind in ("Conv2d", "BatchNorm2d", "Linear")] == [20, 20, 1]


def test_vgg16():
    names = list_layers(models.vgg16())
    assert len(names) == 27
    assert names == [f"features.{i + k}" for i in VGG_CONVOLUTIONS for k in (0, 1)] + ["classifier"]


@pytest.mark.parametrize("build", [models.resnet18, models.vgg16, models.digits_cnn, models.resnet32_thin])
def test_every_parameter_is_in_one_layer(build):
    model = build()
    assert sum(layer.parameters for layer in layers_of(model)) == sum(p.numel() for p in model.parameters())


def test_names_are_those_of_the_network_behind_a_normalisation():
    model = Normalized(models.resnet18(), 0.5, 0.5)
    assert list_layers(model) == resnet18_names()
    assert layers_of(model)[0].path == "net.conv1"
    assert cutoff_at(model, "layer3") == cutoff_at(model, "net.layer3") == 20
    assert block_cutoffs(model) == block_cutoffs(models.resnet18())


def test_batch_norm_without_parameters_has_statistics_to_reset():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False), nn.InstanceNorm2d(2), nn.Linear(2, 2))
    assert list_layers(model) == ["0", "1", "3"]


class Token(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(nn.Linear(1, 3).weight.detach())
        self.head = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Token(), r"the model itself \(Token\)"),
        (nn.Sequential(nn.MultiheadAttention(4, 2)), r"0 \(MultiheadAttention\)"),
        (nn.Sequential(nn.LazyLinear(3)), r"0 \(LazyLinear\)"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), r"parametrizations\.weight"),
        (nn.Sequential(nn.ReLU()), "no layer with parameters"),
    ],
)
def test_models_that_cannot_be_split(model, said):
    with pytest.raises(NetprobeError, match=said):
        list_layers(model)


def test_shared_weights():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    with pytest.raises(NetprobeError, match="layers 0 and 2 share a weight"):
        list_layers(model)
    once = nn.Linear(3, 3)
    assert list_layers(nn.Sequential(once, nn.ReLU(), once)) == ["0"]  # one layer, called twice


def test_cutoffs_by_number_and_name():
    model = models.resnet18()
    for at, name in enumerate(resnet18_names()):
        assert cutoff_at(model, at) == cutoff_at(model, name) == cutoff_at(model, f"before {name}") == at
    assert cutoff_at(model, 41) == cutoff_at(model, "end") == 41


def test_containers_and_modules_without_parameters_are_places_too():
    """A name that holds many layers is one place, before the first of them."""
    model = models.resnet18()
    names = list_layers(model)
    assert names[cutoff_at(model, "layer3")] == names[cutoff_at(model, "layer3.0")] == "layer3.0.conv1"
    assert names[cutoff_at(model, "layer2.0.shortcut")] == "layer2.0.shortcut.0"
    assert names[cutoff_at(model, "avgpool")] == "linear"
    vgg = models.vgg16()  # the study's names: the module after a layer, where there is a ReLU its number
    assert [list_layers(vgg)[cutoff_at(vgg, f"features.{i}")] for i in (1, 2, 4, 5)] == [
        "features.1", "features.3", "features.4", "features.7",
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [-1, 12, True, 1.0, None, "conv9", "", "before"])
def test_no_such_cutoff(wrong):
    with pytest.raises(NetprobeError, match="cutoff"):
        cutoff_at(models.digits_cnn(), wrong)


def test_lists_of_cutoffs():
    model = models.digits_cnn()
    assert cutoffs_of(model, "all") == list(range(1, 11))
    assert cutoffs_of(model, "blocks") == [2, 4, 6, 8, 10]
    assert cutoffs_of(model, "8,0, conv2,end") == cutoffs_of(model, [8, "0", "conv2", 11]) == [0, 2, 8, 11]
    for wrong in ("", [], ","):
        with pytest.raises(NetprobeError, match="write all, blocks"):
            cutoffs_of(model, wrong)


def test_blocks_are_whole():
    stages = [f"layer{stage}.{number}.conv1" for stage in (1, 2, 3, 4) for number in (0, 1)]
    assert blocks(models.resnet18()) == [*stages, "linear"]
    assert blocks(models.vgg16()) == [f"features.{i}" for i in VGG_CONVOLUTIONS[1:]] + ["classifier"]
    assert blocks(models.digits_cnn()) == ["conv2", "conv3", "conv4", "conv5", "linear"]
    thin = blocks(models.resnet32_thin())  # its very first unit is of a class of its own
    assert thin == [f"block{b}.{i}.bn1" for b in (1, 2, 3) for i in range(5)] + ["bn1", "linear"]
    mobile = blocks(torchvision.models.mobilenet_v2())
    assert mobile == [f"features.{i}.conv.0.0" for i in range(1, 18)] + ["features.18.0", "classifier.1"]

"""Each architecture has the layers, names and parameters that its paper and its docstring state."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
import torchvision
from torch import nn

from netprobe.errors import NetprobeError
from netprobe.models import ARCHITECTURES, digits_cnn, madry_cnn, resnet18, resnet32_thin, vgg16
from netprobe.models.resnet_cifar import PadShortcut
from netprobe.models.resnet_thin import PoolShortcut

INPUTS = {name: (3, 32, 32) for name in ARCHITECTURES} | {
    "digits_cnn": (1, 8, 8),
    "mnist_cnn": (1, 28, 28),
    "lenet": (1, 28, 28),
    "madry_cnn": (1, 28, 28),
    "mlp": (1, 8, 8),
    "shallow": (1, 28, 28),
    "words_mlp": (16_000,),
}
PARAMETERS = {
    "digits_cnn": 35_674,
    "mnist_cnn": 288_170,
    "lenet": 155_606,
    "madry_cnn": 3_274_634,
    "mlp": 50_826,
    "shallow": 1_588_010,
    "words_mlp": 8_247_306,
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "vgg16": 14_728_266,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet32_thin": 464_154,
}


@pytest.fixture(params=ARCHITECTURES)
def name(request) -> str:
    return request.param


def convolutions_in_run_order(model: nn.Module, x: torch.Tensor) -> list[str]:
    order: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, path=path: order.append(path))
    with torch.no_grad():
        model(x)
    return order


def test_the_registry_is_complete():
    assert set(PARAMETERS) == set(ARCHITECTURES)


def test_parameters_as_stated(name):
    build = ARCHITECTURES[name]
    assert sum(p.numel() for p in build().parameters()) == PARAMETERS[name]
    assert f"{PARAMETERS[name]:,}" in inspect.getdoc(build)


def test_logits_for_any_number_of_classes(name):
    model = ARCHITECTURES[name](num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.rand(2, *INPUTS[name])).shape == (2, 7)


def test_every_parameter_learns(name):
    model = ARCHITECTURES[name]()
    model(torch.rand(2, *INPUTS[name])).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_nothing_works_in_place(name):
    # A listener reads a tensor when it exists; an in-place successor would also spoil what a user's hook keeps.
    assert not any(getattr(module, "inplace", False) for module in ARCHITECTURES[name]().modules())


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {"mlp", "shallow", "words_mlp"}))
def test_input_channels_can_be_chosen(name):
    _, *size = INPUTS[name]
    with torch.no_grad():
        assert ARCHITECTURES[name](in_channels=2).eval()(torch.rand(2, 2, *size)).shape == (2, 10)


def test_mlp_takes_any_number_of_values():
    model = ARCHITECTURES["mlp"](in_features=784, hidden=(20, 30, 40))
    assert [type(layer).__name__ for layer in model] == ["Flatten", *["Linear", "ReLU"] * 3, "Linear"]
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert sum(p.numel() for p in ARCHITECTURES["mlp"](in_features=784).parameters()) == 235_146


def test_madrys_network_step_by_step():
    model, x = madry_cnn(), torch.rand(2, 1, 28, 28)
    weights = model.state_dict()
    assert [name for name in weights if name.endswith("weight")] == [
        f"{layer}.weight" for layer in ("conv1", "conv2", "linear1", "linear2")
    ]
    h = x
    for layer in ("conv1", "conv2"):  # "same": 28 and 14 pixels stay 28 and 14, then are halved
        h = nn.functional.conv2d(h, weights[f"{layer}.weight"], weights[f"{layer}.bias"], padding="same")
        h = nn.functional.max_pool2d(h.relu(), 2)
    assert h.shape == (2, 64, 7, 7)
    h = (h.flatten(1) @ weights["linear1.weight"].T + weights["linear1.bias"]).relu()
    with torch.no_grad():
        torch.testing.assert_close(model(x), h @ weights["linear2.weight"].T + weights["linear2.bias"])


def test_resnet18_names_in_run_order():
    expected = ["conv1"]
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            expected += [f"layer{stage}.{block}.conv1", f"layer{stage}.{block}.conv2"]
            if stage > 1 and block == 0:
                expected.append(f"layer{stage}.{block}.shortcut.0")
    model = resnet18().eval()
    assert convolutions_in_run_order(model, torch.rand(1, 3, 32, 32)) == expected
    norms = [path for path, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(expected) == len(norms) == 20
    weights = {name.rpartition(".")[0] for name in model.state_dict()}
    assert weights == {*expected, *norms, "linear"}


@pytest.mark.parametrize(("name", "stem"), [("resnet18", 3), ("resnet34", 7)])
def test_resnets_are_torchvisions_behind_another_stem(name, stem):
    reference = getattr(torchvision.models, name)
    ours, theirs = ARCHITECTURES[name](stem=stem).eval(), reference(weights=None, num_classes=10).eval()
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, stem, padding=stem // 2, bias=False), nn.Identity()
    shuffle_statistics(ours)
    names = {name: name.replace("shortcut", "downsample").replace("linear", "fc") for name in ours.state_dict()}
    theirs.load_state_dict({names[name]: value for name, value in ours.state_dict().items()})
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_vgg16_is_torchvisions_with_one_linear_layer():
    from torchvision.models import vgg16_bn

    ours, theirs = vgg16().eval(), vgg16_bn(weights=None).features.eval()
    shuffle_statistics(ours)
    theirs.load_state_dict(ours.features.state_dict())
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), ours.classifier(theirs(x).flatten(1)))


def shuffle_statistics(model: nn.Module) -> None:
    """Batch statistics unlike those of a fresh network, with which a normalisation would change nothing."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.05, 0.2)


def test_vgg16_names():
    model = vgg16()
    convs = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    indices = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
    assert convs == [f"features.{index}" for index in indices]
    assert all(model.get_submodule(path).bias is not None for path in convs)
    norms = [path for path, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms == [f"features.{index + 1}" for index in indices]
    assert model.classifier.in_features == 512


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_cifar_resnets_have_as_many_layers_as_their_name(depth):
    layers = [m for m in ARCHITECTURES[f"resnet{depth}"]().modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def test_shortcuts_without_parameters():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    padded = PadShortcut(stride=2, extra=2)(x)
    pooled = PoolShortcut(stride=2, extra=2)(x)
    # Rows 0 1 2 3 / 4 5 6 7 / ...: every second pixel, or the mean of each 2x2; one channel of zeros on each side.
    assert padded.tolist() == [[[[0, 0], [0, 0]], [[0, 2], [8, 10]], [[0, 0], [0, 0]]]]
    assert pooled.tolist() == [[[[0, 0], [0, 0]], [[2.5, 4.5], [10.5, 12.5]], [[0, 0], [0, 0]]]]
    odd = PadShortcut(stride=1, extra=3)(x)
    assert [bool(channel.any()) for channel in odd[0]] == [False, True, False, False]


def test_the_wirings_of_the_thin_resnet_share_their_weights_and_differ():
    released, original = resnet32_thin().eval(), resnet32_thin(wiring="tensorflow").eval()
    original.load_state_dict(released.state_dict())
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(released(x), original(x), atol=1e-3)


def test_an_unknown_wiring_names_the_known_ones():
    with pytest.raises(NetprobeError, match=re.escape("unknown wiring 'tf'")) as error:
        resnet32_thin(wiring="tf")
    assert "released" in str(error.value) and "tensorflow" in str(error.value)


def test_the_digits_network_learns_a_few_images():
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    model = digits_cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert (model(x).argmax(1) == y).all()

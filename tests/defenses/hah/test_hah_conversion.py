"""HaH blocks in other people's networks: which groups are found, what becomes of them, what stays."""

import copy

import pytest
import torch
from torch import nn

from netprobe.defenses.hah import (
    AdaptiveThreshold,
    DivisiveNorm,
    Group,
    HaHBlock,
    NormalizedConv2d,
    StandardBlock,
    convert,
    find_groups,
)
from netprobe.errors import NetprobeError
from netprobe.models import ARCHITECTURES, Normalized
from netprobe.perturb.attack_copy import LiveCopy, attack_copy
from netprobe.perturb.backward import declared_passes, surrogates
from netprobe.sites import find_sites


def small(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Residual(nn.Module):
    """Two convolutions and a sum, one ReLU for both, as in torchvision."""

    def __init__(self, functional=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU() if not functional else nn.functional.relu

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + x)


class Branching(nn.Module):
    """Looks at values, so that it cannot be traced; its features can."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        out = self.head(self.features(x).mean((2, 3)))
        return out if out.sum() > 1e9 else 2 * out


def blocks_of(model, kind):
    return [path for path, module in model.named_modules() if type(module) is kind]


@pytest.fixture
def x():
    return torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ((nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), [Group("0", "1", "2")]),
        ((nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), [Group("0", "2", "1")]),
        ((nn.Conv2d(3, 4, 3), nn.ReLU()), [Group("0", None, "1")]),
        ((nn.Conv2d(3, 4, 3), nn.Identity(), nn.BatchNorm2d(4), nn.Identity(), nn.ReLU()), [Group("0", "2", "4")]),
        ((nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), []),
        ((nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU()), []),
        ((nn.Conv2d(3, 4, 3), nn.LeakyReLU()), []),
        (
            (nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))),
            [Group("0.0", "1.1", "1.0")],
        ),
    ],
)
def test_what_a_group_is(layers, found):
    assert find_groups(small(*layers)) == found


@pytest.mark.parametrize(("functional", "calls"), [(False, "shared"), (True, "function")])
def test_a_relu_that_others_share_is_left_where_it_is(functional, calls):
    (found,) = find_groups(Residual(functional))
    assert found == Group("conv1", "bn1", None)


def test_weights_that_are_used_twice_are_no_group():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return self.relu(self.conv(self.relu(self.conv(x))))

    assert find_groups(Twice()) == []


def test_an_output_that_is_read_elsewhere_too_begins_no_group():
    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 3), nn.ReLU()

        def forward(self, x):
            y = self.conv(x)
            return self.relu(y) + y

    assert find_groups(Read()) == []


def test_what_cannot_be_traced_is_looked_into():
    assert find_groups(Branching()) == [Group("features.0", "features.1", "features.2")]
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), Branching())
    assert [group.conv for group in find_groups(model)] == ["0", "2.features.0"]


@pytest.mark.parametrize(
    ("name", "count"), [("vgg16", 13), ("resnet18", 9), ("resnet20", 10), ("digits_cnn", 5), ("madry_cnn", 2)]
)
def test_groups_of_our_networks(name, count):
    assert len(find_groups(ARCHITECTURES[name]())) == count


def test_networks_of_torchvision_and_timm():
    torchvision, timm = pytest.importorskip("torchvision"), pytest.importorskip("timm")
    for net in (torchvision.models.resnet18(weights=None), timm.create_model("resnet18")):
        converted = convert(net.eval(), 3)
        assert blocks_of(converted, HaHBlock) == ["conv1", "layer1.0.conv1", "layer1.1.conv1"]
        with torch.no_grad():
            assert converted(torch.rand(2, 3, 32, 32)).shape == (2, 1000)


def test_the_vgg_of_the_paper():
    """Six HaH blocks, seven standard ones, no bias but that of the last layer; 14,715,584 weights of convolutions."""
    model = convert(ARCHITECTURES["vgg16"](), 6, standard="normalised")
    assert blocks_of(model, HaHBlock) == [f"features.{n}" for n in (0, 3, 7, 10, 14, 17)]
    assert blocks_of(model, StandardBlock) == [f"features.{n}" for n in (20, 24, 27, 30, 34, 37, 40)]
    names = dict(model.named_parameters())
    assert [name for name in names if name.endswith("bias")] == [
        *(f"features.{n}.norm.bias" for n in (20, 24, 27, 30, 34, 37, 40)),
        "classifier.bias",
    ]
    assert sum(p.numel() for name, p in names.items() if name.endswith("conv.weight")) == 14_710_464


def test_no_block_and_own_forms_is_the_same_function(x):
    model = small(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    made = convert(model, 0)
    assert torch.equal(made(x), model(x))
    assert made is not model
    assert list(made.state_dict()) == list(model.state_dict())


def test_the_users_own_network_stays_as_it_is(x):
    model = small(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 10, 3), nn.ReLU()).eval()
    before, state = model(x), copy.deepcopy(model.state_dict())
    made = convert(model, 1, standard="normalised")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 1
    assert torch.equal(model(x), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_blocks_have_the_weights_that_were_there_and_batch_norms_begin_anew():
    model = small(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 4, 3), nn.BatchNorm2d(4, 1e-3, 0.3))
    model.insert(5, nn.ReLU())
    model(torch.rand(4, 3, 9, 9))
    made = convert(model.eval().double(), 1, standard="normalised")
    assert torch.equal(made[0].conv.weight, model[0].weight)
    assert torch.equal(made[3].conv.weight, model[3].weight)
    assert made[3].norm.running_mean.abs().max() == 0
    assert (made[3].norm.eps, made[3].norm.momentum) == (1e-3, 0.3)
    assert {p.dtype for p in made.parameters()} == {torch.float64}
    assert not any(module.training for module in made.modules())
    assert [type(made[n]) for n in (1, 2, 4, 5)] == [nn.Identity] * 4


def test_settings_reach_the_blocks():
    model = small(nn.Conv2d(3, 10, 3), nn.ReLU())
    block = convert(model, 1, pool=1, sigma=0.3, keep=0.4, rule="mean", top=0.3)[0]
    assert (block.norm.pool, block.norm.sigma, block.top) == (1, 0.3, 0.3)
    assert (block.threshold.keep, block.threshold.rule) == (0.4, "mean")
    assert type(convert(model, 1, norm="batch")[0].norm) is nn.BatchNorm2d


def test_a_shared_relu_behind_a_block_changes_nothing(x):
    """Outputs of HaH blocks are not negative."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Residual()).eval()
    made = convert(model, 1)
    block = made[1].conv1
    assert type(block) is HaHBlock
    assert type(made[1].relu) is nn.ReLU
    z = made[0](x)
    torch.testing.assert_close(made[1](z), (made[1].bn2(made[1].conv2(block(z))) + z).relu())


@pytest.mark.parametrize("settings", [{"blocks": 0, "standard": "normalised"}, {"blocks": 1, "norm": "batch"}])
@pytest.mark.parametrize("functional", [False, True])
def test_a_shared_relu_behind_batch_norm_is_an_error(settings, functional):
    with pytest.raises(NetprobeError, match="the ReLU behind conv1 of Residual is a function, or shared"):
        convert(Residual(functional), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 6}, r"ConvNet has 5 groups .*\(conv1, conv2, conv3, conv4, conv5\), and 6 .* Choose blocks=5"),
        ({"blocks": -1}, "blocks=-1: give a whole number, 0 or more"),
        ({"blocks": True}, "blocks=True"),
        ({"blocks": 1, "standard": "normalized"}, "did you mean 'normalised'"),
        ({"blocks": 1, "norm": "layer"}, "valid choices: .*divisive"),
        ({"blocks": 1, "rule": "max"}, "unknown rule of the threshold"),
        ({"blocks": 1, "pool": 2}, "pool=2"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(NetprobeError, match=message):
        convert(ARCHITECTURES["digits_cnn"](), **settings)


def test_a_network_without_groups_is_told_what_was_found():
    with pytest.raises(NetprobeError, match=r"has 0 groups .* its layers: conv1 Conv2d, pool1 MaxPool2d, relu1 ReLU"):
        convert(ARCHITECTURES["lenet"](), 1)


@pytest.mark.parametrize("settings", [{}, {"standard": "normalised"}, {"norm": "batch"}, {"rule": "none"}])
def test_attack_copies_are_the_same_function(settings):
    torch.manual_seed(0)
    model = convert(ARCHITECTURES["digits_cnn"](), 2, **settings).double()
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    model(x)
    copied = attack_copy(model.eval(), x)
    own = settings.get("standard") != "normalised"
    left = sum(isinstance(module, nn.BatchNorm2d) for module in copied.modules())
    assert left == 2 * (settings.get("norm") == "batch") + 3 * (not own)  # those of other layers are folded
    torch.testing.assert_close(copied(x), model(x), rtol=1e-9, atol=1e-12)
    assert declared_passes(copied) == declared_passes(model)
    for way in declared_passes(model) or (None,):
        slopes = []
        for net in (model, copied):
            z = x.clone().requires_grad_()
            with surrogates(net, way):
                slopes.append(torch.autograd.grad(net(z)[:, 0].sum(), z)[0])
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)


def test_a_live_copy_follows_the_training():
    torch.manual_seed(0)
    model, x = convert(ARCHITECTURES["digits_cnn"](), 2).double(), torch.rand(6, 1, 8, 8, dtype=torch.float64)
    live = LiveCopy(model, x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.rand_like(parameter)
    torch.testing.assert_close(live.refresh()(x), model.eval()(x), rtol=1e-9, atol=1e-12)


def test_sites_have_clear_names():
    model = Normalized(convert(ARCHITECTURES["vgg16"](), 1, standard="normalised"), 0.5, 0.2)
    sites = {site.name: site for site in find_sites(model, torch.rand(1, 3, 32, 32))}
    wanted = ["features.0.conv:in", "features.0.conv", "features.0.norm", "features.0.threshold", "features.0"]
    wanted += ["features.3.conv:in", "features.3.conv", "features.3.relu", "features.3.norm", "features.3"]
    assert [name for name in sites if name in wanted] == wanted
    assert {type(m) for m in model.modules()} >= {AdaptiveThreshold, DivisiveNorm, NormalizedConv2d}
    assert sites["features.0.threshold"].channel_axis == 1

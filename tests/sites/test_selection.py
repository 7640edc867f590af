"""Choosing sites: every form of pattern, run order, each once; errors that name the closest."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from tiny import ConvNet, seeded
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.models.normalize import Normalized
from netprobe.sites import Site, find_sites
from netprobe.sites.selection import KINDS, select

X = torch.rand(2, 3, 6, 5)


@pytest.fixture(scope="module")
def sites() -> list[Site]:
    return find_sites(seeded(ConvNet), X)


def chosen(sites: list[Site], patterns: object) -> list[str]:
    return [site.name for site in select(sites, patterns)]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("conv1", ["conv1"]),
        ("conv*", ["conv1", "conv2"]),
        ("conv[2-9]", ["conv2"]),
        ("re:[12]$", ["conv1", "relu1", "conv2", "relu2"]),
        ("re:^conv[1,2]$", ["conv1", "conv2"]),  # a comma inside an expression is no separator
        (re.compile("onv"), ["conv1", "conv2"]),
        ("conv", ["conv1", "conv2"]),
        ("linear", ["head"]),
        ("weighted", ["conv1", "conv2", "head"]),
        ("relu", ["relu1", "relu2"]),
        ("activation", ["relu1", "relu2"]),
        ("leaf", ["conv1", "relu1", "conv2", "relu2", "head"]),
        ("all", ["conv1", "relu1", "conv2", "relu2", "head", "output"]),
        ("type:Conv2d", ["conv1", "conv2"]),
        ("type:_ConvNd", ["conv1", "conv2"]),
        ("type:ConvNet", ["output"]),
        ("type:conv", ["conv1", "conv2"]),
        (nn.Conv2d, ["conv1", "conv2"]),
        (lambda site: site.units < 10, ["head", "output"]),
        ("conv:in", ["conv1:in", "conv2:in"]),
        ("head:in", ["head:in"]),
        ("input", ["input"]),
        ("input,output", ["input", "output"]),
        ("head, conv1", ["conv1", "head"]),  # in run order, whatever the order asked for
        (["head", "conv*", "conv1"], ["conv1", "conv2", "head"]),  # each once
        (["conv1", nn.Linear, lambda site: site.name == "relu2"], ["conv1", "relu2", "head"]),
        ("leaf,~relu", ["conv1", "conv2", "head"]),
        ("~conv1,leaf,~relu*", ["conv2", "head"]),
        ("~head", ["conv1", "conv2"]),  # of the weighted ones
        ("all,~type:_ConvNd,~re:relu", ["head", "output"]),
        ("all:in,~relu:in", ["input", "conv1:in", "conv2:in", "head:in"]),
    ],
)
def test_patterns(sites, patterns, names):
    assert chosen(sites, patterns) == names


def test_kinds_by_class_name():
    class PreActBlock(nn.Sequential): ...

    class SelfAttention(nn.Identity): ...

    model = nn.Sequential(
        PreActBlock(nn.BatchNorm2d(3), nn.GELU()), nn.MaxPool2d(2), SelfAttention(), nn.LayerNorm(2), nn.Flatten()
    )
    sites = find_sites(model, X)
    assert chosen(sites, "block") == ["0"]
    assert chosen(sites, "norm") == ["0.0", "3"]
    assert chosen(sites, "activation") == ["0.1"]
    assert chosen(sites, "pool") == ["1"]
    assert chosen(sites, "attention") == ["2"]


def test_torchvision_blocks():
    torchvision = pytest.importorskip("torchvision")
    sites = find_sites(seeded(torchvision.models.resnet18, num_classes=4), torch.rand(1, 3, 32, 32))
    assert chosen(sites, "block") == [f"layer{i}.{b}" for i in (1, 2, 3, 4) for b in (0, 1)]
    assert len(chosen(sites, "conv")) == 20
    assert len(chosen(sites, "type:relu")) == 17  # one, and two calls in each of 8 blocks
    assert chosen(sites, "relu") == chosen(sites, "type:relu")  # a module called relu that is one leaves no doubt
    assert chosen(sites, "layer1.0.relu") == chosen(sites, "layer1.0.relu#*") == ["layer1.0.relu#0", "layer1.0.relu#1"]
    assert chosen(sites, "layer1.0.relu#1") == ["layer1.0.relu#1"]
    assert chosen(sites, "layer1.0.relu#1:in") == ["layer1.0.relu#1:in"]
    assert chosen(sites, "layer1.0.relu:in") == ["layer1.0.relu#0:in", "layer1.0.relu#1:in"]
    assert chosen(sites, "layer3.*.conv2") == ["layer3.0.conv2", "layer3.1.conv2"]


def test_the_wrapper_that_normalises_changes_no_pattern():
    sites = find_sites(Normalized(seeded(ConvNet), 0.5, 0.5), X)
    assert chosen(sites, "conv1,re:^head$") == ["conv1", "head"]


def test_no_match_names_the_closest_and_lists_the_kinds(sites):
    with pytest.raises(NetprobeError, match=r"unknown site pattern 'conv3': did you mean 'conv[12]'\?") as error:
        select(sites, "conv3")
    assert all(kind in str(error.value) for kind in KINDS)
    with pytest.raises(NetprobeError, match=r"'conv3:in': did you mean 'conv[12]:in'"):
        select(sites, "conv3:in")
    with pytest.raises(NetprobeError, match="unknown site pattern 'hed'"):
        select(sites, "conv,hed")  # one good pattern does not excuse another
    with pytest.raises(NetprobeError, match="unknown site pattern 'hed'"):
        select(sites, "conv,~hed")


def test_a_bad_expression_is_an_error_of_ours(sites):
    with pytest.raises(NetprobeError, match="not a regular expression"):
        select(sites, "re:conv[")


def test_excluding_everything_is_an_error(sites):
    with pytest.raises(NetprobeError, match="exclude every site they choose"):
        select(sites, "conv,~conv*")


class Named(nn.Module):
    """Its submodule has the name of a kind, and is of another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(x)).flatten(1)


@pytest.mark.parametrize("model", [Named(), Normalized(Named(), 0.5, 0.5)], ids=["plain", "normalised"])
def test_a_kind_that_is_also_a_module_must_be_spelled_out(model):
    sites = find_sites(model, X)
    for pattern in ("conv", "conv:in", "~conv"):
        with pytest.raises(NetprobeError, match=r"'type:conv' or 're:\^conv\$'"):
            select(sites, pattern)
    assert chosen(sites, "type:conv") == ["conv.0", "other"]
    assert chosen(sites, "re:^conv$") == ["conv"]


class Mixing(nn.Module):
    """`mean` loses the image axis, `fc` has it."""

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(0)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.mean = nn.Linear(5, 4), self.Mean()

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        self.mean(x)
        return x


def test_sites_without_an_image_axis_are_refused_or_passed_over_with_a_warning(caplog):
    sites = find_sites(Mixing(), torch.rand(2, 5))
    with pytest.raises(NetprobeError, match=r"no axis of 'mean' \(shape \(4,\)\) counts the images.*for example"):
        select(sites, "mean")
    with caplog.at_level(logging.WARNING):
        assert chosen(sites, "all") == ["fc", "output"]
    assert "mean" in caplog.text

"""What tests of partial training share: a network of five layers, a few digits, and a sweep of seconds."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
import xarray as xr
from torch import nn

from netprobe import data as npdata
from netprobe.training.partial.planning import Grid, grid_of
from netprobe.training.partial.sweeping import sweep

QUICK = {
    "adversarial": "pgd-at:eps=0.1,steps=2",
    "recipe": "quick",
    "epochs": 2,
    "test": "pgd:eps=0.1,steps=3",
    "progress": False,
}


def tiny_net(width: int = 6) -> nn.Sequential:
    """conv1, bn1, conv2, bn2, linear; blocks begin at conv2 and linear."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, width, 3, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(width, 2 * width, 3, stride=2, bias=False),
            bn2=nn.BatchNorm2d(2 * width),
            relu2=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(2 * width, 10),
        )
    )


def digits(train: int = 256, test: int = 64) -> tuple[npdata.Data, npdata.Data]:
    return npdata.load("digits", "train", limit=train), npdata.load("digits", "test", limit=test)


def small_sweep(folder: Path, codes="A1N2", cutoffs="blocks", seeds=(0,), **settings) -> xr.Dataset:
    """By default four units: both whole networks, and A1N2 before conv2 and before linear."""
    return sweep(tiny_net(), digits(), codes, cutoffs, seeds, out=folder, **QUICK | settings)


def small_grid(folder: Path, codes="A1N2", cutoffs="blocks", seeds=(0,), **settings) -> Grid:
    return grid_of(tiny_net(), digits(), codes, cutoffs, seeds, out=folder, **QUICK | settings)


def assert_identical(one: xr.Dataset, other: xr.Dataset) -> None:
    """The same numbers to the last bit, the same coordinates and attributes."""
    xr.testing.assert_identical(one, other)


torch.set_num_threads(1)  # the same sums in every process

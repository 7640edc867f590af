"""Two processes train the network that one does, and their parts of everything join."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from netprobe.processes import Processes
from netprobe.training.synced import synced

SCRIPT = Path(__file__).with_name("distributed_fit.py")


REGULARISERS = [
    "l2",
    "jacobian:site=relu2,projections=1,coupling=1e-3",
    "spectral:site=conv1,rows=channel,tau=2,coupling=1e-3",
    "spectral-norm:layers=conv2+linear",
    "similarity:count=60,pairs=9,threshold=none,coupling=1",
]


def train(defense, path, processes, regularise=()):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, "-W", "error::FutureWarning", *launcher, str(SCRIPT), defense, str(path), *regularise]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return torch.load(path)


# Attacks in L2: the sign of a gradient that is nearly 0 turns rounding into steps of full length.
@pytest.mark.slow  # the next one starts two processes by default
@pytest.mark.parametrize("defense", ["natural", "pgd-at:eps=0.5,steps=2,norm=l2"])
def test_two_processes_train_as_one(defense, tmp_path):
    one, two = (train(defense, tmp_path / f"{n}.pt", n) for n in (1, 2))
    for name, tensor in one.items():
        if tensor.is_floating_point():
            assert (two[name] - tensor).abs().max() <= 1e-5 * tensor.abs().max().clamp_min(1), name
        else:
            assert torch.equal(two[name], tensor)


# Eigenvectors, which rounding turns, are compared through what they do: the loss, and the weights after two epochs.
def test_two_processes_regularise_as_one(tmp_path):
    one, two = (train("natural", tmp_path / f"{n}.pt", n, REGULARISERS) for n in (1, 2))
    for name, tensor in one.items():
        assert (two[name] - tensor).abs().max() <= 1e-4 * tensor.abs().max().clamp_min(1), name


def test_shares_are_all_rows_once():
    rows = torch.arange(11)
    shares = [Processes(rank, 3).share(rows) for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == rows.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_is_replaced():
    norm = nn.BatchNorm2d(3)
    with synced(norm, Processes()):
        assert "forward" not in vars(norm)
    assert Processes().total([1.5]) == [1.5]

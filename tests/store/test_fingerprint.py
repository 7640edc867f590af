"""Equal hashes for what computes the same, other hashes for whatever differs, in any process."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import ConvNet, lookup, seeded
from torch import nn

from netprobe.perturb import PGD
from netprobe.store.fingerprint import fingerprint


class Scaled(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.net, self.by = seeded(ConvNet), by

    def forward(self, x):
        return self.by * self.net(x)


class AlsoScaled(nn.Module):
    """Equal attributes, another forward."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.net, self.by = seeded(ConvNet), by

    def forward(self, x):
        return self.net(self.by * x)


def one(model, x, y, *, generator):
    return x


def other(model, x, y, *, generator):
    return x + 0


def circular() -> dict:
    found: dict = {"a": 1}
    found["itself"] = found
    return found


DIFFERENT = {
    "weights": lambda: seeded(ConvNet, seed=1),
    "other weights": lambda: seeded(ConvNet, seed=2),
    "a setting": lambda: Scaled(2.0),
    "another setting": lambda: Scaled(3.0),
    "another forward": lambda: AlsoScaled(2.0),
    "a buffer": lambda: nn.BatchNorm2d(2),
    "another buffer": lambda: _moved(nn.BatchNorm2d(2)),
    "eps": lambda: PGD(0.1),
    "another eps": lambda: PGD(0.2),
    "steps": lambda: PGD(0.1, steps=3),
    "a function": lambda: one,
    "another function": lambda: other,
    "what a function encloses": lambda: lookup(torch.zeros(3)),
    "something else enclosed": lambda: lookup(torch.ones(3)),
    "arguments": lambda: functools.partial(one, y=1),
    "other arguments": lambda: functools.partial(one, y=2),
    "none": lambda: None,
    "a circle": circular,
    "numbers": lambda: torch.arange(3),
    "numbers of another type": lambda: torch.arange(3).int(),
    "numbers of another shape": lambda: torch.arange(3)[None],
}


def _moved(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.running_mean += 1
    return norm


def test_whatever_differs_has_another_hash():
    hashes = {name: fingerprint(make()) for name, make in DIFFERENT.items()}
    assert len(set(hashes.values())) == len(DIFFERENT)


@pytest.mark.parametrize("name", DIFFERENT)
def test_made_again_it_has_the_same_hash(name):
    assert fingerprint(DIFFERENT[name]()) == fingerprint(DIFFERENT[name]())


def test_what_does_not_matter():
    model = seeded(ConvNet)
    expected = fingerprint(model)
    model.train()
    model.requires_grad_(False)
    model.netprobe_source = {"checkpoint": "moved"}
    model.register_forward_hook(lambda *_: None)
    assert fingerprint(model) == expected


def test_another_process_agrees():
    """Hashes of strings differ between processes, addresses too: neither may enter."""
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]!r}\n"
        "from test_fingerprint import DIFFERENT, fingerprint\n"
        "print([fingerprint(make()) for make in DIFFERENT.values()])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == str([fingerprint(make()) for make in DIFFERENT.values()])

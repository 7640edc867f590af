"""Training that is killed at random moments ends with the weights of an undisturbed one."""

import multiprocessing
import random
import time

import pytest
import torch

from netprobe import data
from netprobe.training import fit

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["netprobe.training", "netprobe.data", "netprobe.models"])

SETTINGS = {"epochs": 4, "batch_size": 32, "validation": 0.2, "save_every": 0.0, "ema": 0.9}


REGULARISED = ("jacobian:site=output", "spectral:site=linear:in,rows=unit,tau=3,coupling=0.01", "spectral-norm")


def train(defense, folder, regularise=()):
    """In a process of its own; `save_every` 0 saves at every look, many times an epoch."""
    from netprobe.training import loop

    torch.set_num_threads(1)
    loop.LOOK_EVERY = 0.0
    images = data.load("digits", "train", limit=200)
    fit(defense, "digits_cnn", images, "quick", regularise=regularise, out=folder, progress=False, **SETTINGS)


def weights(folder, name):
    return torch.load(folder / name, weights_only=True)["state_dict"]


def run(defense, folder, regularise):
    """Train until the end."""
    process = FORKS.Process(target=train, args=(defense, folder, regularise))
    process.start()
    process.join()
    assert process.exitcode == 0


def run_and_kill(defense, folder, regularise, moment):
    """Train until something new is saved and then for `moment` seconds, if it lasts that long."""
    process, before = FORKS.Process(target=train, args=(defense, folder, regularise)), saved_at(folder)
    process.start()
    while process.is_alive() and saved_at(folder) == before:
        time.sleep(0.001)
    process.join(moment)
    process.kill()
    process.join()


def saved_at(folder):
    path = folder / "last.pt"
    return path.stat().st_mtime_ns if path.exists() else None


def epochs_done(folder):
    """Whole epochs of a training that has saved something, else -1."""
    if not (folder / "last.pt").exists():
        return -1
    return torch.load(folder / "last.pt", weights_only=True)["training"]["progress"]["epoch"]


@pytest.mark.parametrize(
    "defense, regularise",
    [
        ("natural", ()),
        pytest.param("pgd-at:eps=0.1,steps=2", (), marks=pytest.mark.slow),
        pytest.param("natural", REGULARISED, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(defense, regularise, tmp_path):
    run(defense, tmp_path / "whole", regularise)
    chance, midway = random.Random(0), 0
    for _ in range(4):
        run_and_kill(defense, tmp_path / "parts", regularise, chance.uniform(0, 0.1))
        midway += 0 <= epochs_done(tmp_path / "parts") < SETTINGS["epochs"]
    assert midway
    run(defense, tmp_path / "parts", regularise)
    for name in ("last.pt", "best.pt"):
        whole, parts = (weights(tmp_path / which, name) for which in ("whole", "parts"))
        assert all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())

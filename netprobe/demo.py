"""`netprobe demo`: two small networks on real images, trained, probed, compared and reported, in a few minutes."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import xarray as xr
from torch import nn

from netprobe import data, perturb
from netprobe.attribution import grad_cam
from netprobe.metrics import Hoyer
from netprobe.models import digits_cnn
from netprobe.outcome import write
from netprobe.probing import probe
from netprobe.training import TrainSettings, fit

EPS = 0.15
"""Budget of the demo's attack: 2.4 of the 16 grey levels of scikit-learn's digits."""

EPOCHS = 30

TRAINING = perturb.PGD(eps=EPS, steps=7)
PERTURBATIONS = {"pgd": perturb.PGD(eps=EPS, steps=20), "noise": perturb.GaussianNoise(std=EPS)}
METRICS = ["psr", "snr", Hoyer(sites="relu"), "spectrum", "correlation"]


def trained(seed: int = 0, progress: bool = True) -> dict[str, nn.Module]:
    """A natural and a PGD-adversarially trained `digits_cnn`, from the same initial weights."""
    torch.manual_seed(seed)
    natural = digits_cnn()
    robust = copy.deepcopy(natural)
    train = data.load("digits", "train")
    return {
        "natural": fit(natural, train, TrainSettings(EPOCHS, seed=seed), name="training natural", progress=progress),
        "robust": fit(
            robust,
            train,
            TrainSettings(EPOCHS, batch_size=128, seed=seed),
            attack=TRAINING,
            name="training robust",
            progress=progress,
        ),
    }


def demo(out: str | Path = "runs/demo", seed: int = 0, progress: bool = True) -> xr.DataTree:
    """Train, probe and compare; results, figures and report go to the folder `out`. Returns the results."""
    models = trained(seed, progress)
    test = data.load("digits", "test")
    tree = probe(models, test, PERTURBATIONS, METRICS, sites="conv,linear", seed=seed, progress=progress)
    for name, model in models.items():
        maps = grad_cam(model, test, perturbations=PERTURBATIONS, layer="relu4", limit=4, seed=seed)
        tree[f"{name}/gradcam"] = xr.DataTree(maps)
    for name, model in models.items():
        torch.save(model.state_dict(), _made(out) / f"{name}.pt")
    write(tree, out)
    return tree


def _made(folder: str | Path) -> Path:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)

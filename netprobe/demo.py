"""`netprobe demo`: two small networks on real images, trained, probed, compared and reported, in a few minutes."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
from torch import nn

from netprobe import data, perturb
from netprobe.attribution.gradcam import grad_cam
from netprobe.defenses import AdversarialTraining, Natural
from netprobe.metrics import Hoyer
from netprobe.probing.probe import probe
from netprobe.recipes import Recipe
from netprobe.reporting.outcome import write
from netprobe.training import fit

EPS = 0.15
"""Budget of the demo's attack: 2.4 of the 16 grey levels of scikit-learn's digits."""

TRAINING = {"natural": Natural(), "robust": AdversarialTraining(eps=EPS, steps=7)}
RECIPE = Recipe(epochs=30, batch_size=64, weight_decay=5e-4, schedule="cyclic", peak=0.2, validation=0.0)
PERTURBATIONS = {"pgd": perturb.PGD(eps=EPS, steps=20), "noise": perturb.GaussianNoise(std=EPS)}
METRICS = ["psr", "snr", Hoyer(sites="relu"), "spectrum", "correlation"]


def trained(out: str | Path, seed: int = 0, progress: bool = True) -> dict[str, nn.Module]:
    """A natural and a PGD-adversarially trained `digits_cnn`, from the same initial weights."""
    train = data.load("digits", "train")
    return {
        name: fit(
            defense,
            "digits_cnn",
            train,
            RECIPE.with_settings(seed=seed),
            out=Path(out) / f"{name}-{seed}",
            name=f"training {name}",
            progress=progress,
        ).model
        for name, defense in TRAINING.items()
    }


def demo(out: str | Path = "runs/demo", seed: int = 0, progress: bool = True) -> xr.DataTree:
    """Train, probe and compare; results, figures and report go to the folder `out`. Returns the results."""
    models = trained(out, seed, progress)
    test = data.load("digits", "test")
    tree = probe(models, test, PERTURBATIONS, METRICS, sites="conv,linear", seed=seed, progress=progress)
    for name, model in models.items():
        maps = grad_cam(model, test, perturbations=PERTURBATIONS, layer="relu4", limit=4, seed=seed)
        tree[f"{name}/gradcam"] = xr.DataTree(maps)
    write(tree, out)
    return tree

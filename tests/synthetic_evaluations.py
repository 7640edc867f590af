"""What `npb.evaluate` gives for one model, drawn from plausible distributions instead of attacks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

BOUND = {"bound": ["low", "high"]}
CORRUPTIONS = ("gaussian_noise", "glass_blur", "fog", "jpeg_compression")
SEVERITIES = (1, 3, 5)
REACH = 16 / 255


def evaluations(
    fragile: bool,
    images: int,
    label: np.ndarray,
    rng: np.random.Generator,
    described: Callable[..., xr.Dataset],
    wilson: Callable,
) -> dict[str, xr.Dataset]:
    """The groups of a model, by name."""
    return {
        "evaluation": evaluation(fragile, label, rng, described, wilson),
        "worst_case": worst_case(fragile, images, rng, described, wilson),
        "minimum_norm": minimum_norm(fragile, images, rng, described, wilson),
        "boundary_distance": boundary_distance(fragile, images, described),
        "corruptions": corruptions(fragile, images, rng, described, wilson),
        "landscape": landscape(fragile, rng, described),
    }


def conditions() -> dict:
    sweep = [("pgd@2/255", "PGD", 2 / 255), ("pgd@4/255", "PGD", 4 / 255), ("pgd@8/255", "PGD", 8 / 255)]
    noise = [("gaussian@0.1", "Gaussian noise", 0.1), ("gaussian@0.2", "Gaussian noise", 0.2)]
    rows = [("clean", "clean", 0.0, "", "clean"), *((*each, "linf", "attack") for each in sweep)]
    rows += [(*each, "", "noise") for each in noise]
    rows += [(f"{name}@{s}", name, float(s), "", "corruption") for name in CORRUPTIONS[:2] for s in SEVERITIES]
    names = ("condition", "family", "eps", "norm", "role")
    return {name: ("condition", list(column)) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def evaluation(fragile, label, rng, described, wilson) -> xr.Dataset:
    coords = conditions()
    images, eps = len(label), np.array(coords["eps"][1])
    chance = np.clip(0.92 - (30.0 if fragile else 11.0) * np.where(eps < 0.05, eps, 0.02), 0, 1)
    correct = (rng.random((len(eps), images)) < chance[:, None]).astype(np.int8)
    share = correct.mean(-1)
    both = ("condition", "image")
    return described(
        xr.Dataset(
            {
                "correct": (both, correct),
                "prediction": (both, np.where(correct, label, (label + 1) % 10)),
                "margin": (both, np.where(correct, 2.0, -1.0) + 0.1 * rng.normal(size=correct.shape)),
                "label": ("image", label),
                "mean_loss": ("condition", 2 * (1 - share)),
                "accuracy": ("condition", share),
                "accuracy_interval": (("condition", "bound"), wilson(share, images)),
                "images": ("condition", np.full(len(eps), images)),
                "zero_gradients": 0.0,
            },
            coords=coords | {"image": np.arange(images)} | BOUND,
        ),
        accuracy=("accuracy", "1", "share of images classified as labelled"),
    )


def worst_case(fragile, images, rng, described, wilson) -> xr.Dataset:
    eps = np.array([2, 4, 8]) / 255
    stands = (rng.random((3, images)) < np.clip(0.9 - (40 if fragile else 15) * eps, 0, 1)[:, None]).astype(np.int8)
    share = stands.mean(-1)
    both = ("budget", "image")
    data = {
        "worst_correct": (both, stands),
        "broken_by": (both, np.where(stands, "", "pgd@2/255").astype(object)),
        "worst_accuracy": ("budget", share),
        "worst_accuracy_interval": (("budget", "bound"), wilson(share, images)),
    }
    coords = {"budget": ["L∞ 2/255", "L∞ 4/255", "L∞ 8/255"], "norm": ("budget", ["linf"] * 3), "eps": ("budget", eps)}
    return described(xr.Dataset(data, coords | BOUND | {"image": np.arange(images)}))


def minimum_norm(fragile, images, rng, described, wilson) -> xr.Dataset:
    typical = np.array([0.02, 0.5, 8.0]) * (1 if fragile else 4)
    norms = typical[:, None] * np.exp(0.4 * rng.normal(size=(3, images)))
    norms[:, ::7] = np.nan
    mean, median = np.nanmean(norms, -1), np.nanmedian(norms, -1)
    names = {"condition": ["fmn-linf", "fmn-l2", "fmn-l1"], "norm": ("condition", ["linf", "l2", "l1"])}
    names |= {"family": ("condition", ["FMN", "FMN L2", "FMN L1"]), "eps": ("condition", [np.nan] * 3)}
    share = np.isfinite(norms).mean(-1)
    data = {
        "min_norm": (("condition", "image"), norms),
        "success": ("condition", share),
        "success_interval": (("condition", "bound"), wilson(share, images)),
        "mean": ("condition", mean),
        "mean_interval": (("condition", "bound"), mean[:, None] * [0.95, 1.05]),
        "median": ("condition", median),
        "median_interval": (("condition", "bound"), median[:, None] * [0.93, 1.06]),
    }
    return described(xr.Dataset(data, names | BOUND | {"image": np.arange(images)}))


def boundary_distance(fragile, images, described) -> xr.Dataset:
    square = np.geomspace(0.5, 2, images) * (1e-4 if fragile else 4e-4) * np.array([1.0, 1.1, 0.1])[:, None]
    repeats = np.median(square, -1)
    median = np.array([repeats[:2].mean(), repeats[2]])
    data = {
        "square": (("repeat", "image"), square),
        "repeat_median": ("repeat", repeats),
        "median": ("attack", median),
        "median_interval": (("attack", "bound"), median[:, None] * [0.9, 1.1]),
    }
    attacks = {"attack": ["boundary 50 steps", "fmn"]}
    coords = {"repeat": ["boundary 50 steps-1", "boundary 50 steps-2", "fmn"], "image": np.arange(images)}
    coords |= {"repeat_of": ("repeat", ["boundary 50 steps", "boundary 50 steps", "fmn"])}
    return described(xr.Dataset(data, coords | attacks | BOUND))


def corruptions(fragile, images, rng, described, wilson) -> xr.Dataset:
    accuracy = 0.9 - np.outer(np.linspace(0.3, 1, 4), np.linspace(0.1, 0.7, 3)) * (1.0 if fragile else 0.6)
    wrong = (rng.random((4, images)) < (1 - accuracy.mean(1))[:, None]).astype(float)
    error = wrong.mean(1)
    data = {
        "mean_accuracy": ("severity", accuracy.mean(0)),
        "mean_accuracy_interval": (("severity", "bound"), wilson(accuracy.mean(0), images)),
        "error_image": (("corruption", "image"), wrong),
        "accuracy": (("corruption", "severity"), accuracy),
        "accuracy_interval": (("corruption", "severity", "bound"), wilson(accuracy, images)),
        "error": ("corruption", error),
        "error_interval": (("corruption", "bound"), wilson(error, images)),
        "group_accuracy": ("group", accuracy.mean(1)[[2, 1, 0]]),
        "mean_error": error.mean(),
        "mean_error_interval": ("bound", wilson(error.mean(), images)),
    }
    return described(
        xr.Dataset(
            data,
            {"corruption": list(CORRUPTIONS), "severity": list(SEVERITIES), "group": ["low", "medium", "high"]} | BOUND,
        )
    )


def landscape(fragile, rng, described) -> xr.Dataset:
    steps = np.linspace(-REACH, REACH, 9)
    slope = 60 if fragile else 10
    loss = np.logaddexp(0, slope * steps[:, None] + 3 * steps - 1)
    data = {
        "loss": (("image", "along", "across"), np.stack([loss, 1.2 * loss])),
        "rise": ("image", [1.0, 2.0]),
        "rise_random": ("image", [0.1, 0.2]),
    }
    return described(
        xr.Dataset(data, {"image": [0, 7], "index": ("image", [0, 7]), "along": steps, "across": steps}),
        loss=("loss", "nat", "CE"),
    )

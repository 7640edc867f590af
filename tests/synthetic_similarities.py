"""Similarity matrices, RSA and CKA of synthetic models: related matrices, and estimates that only look plausible."""

from __future__ import annotations

import numpy as np
import xarray as xr

CONDITIONS = ("clean", "noise")


def similarities(sites: dict[str, tuple[str, ...]], images: int, described) -> dict[str, xr.Dataset]:
    """The groups /model/similarity, /model/rsa and /model/cka_matrix of models with these sites.

    Rounded, and compared with the first and last sites alone, so that the numbers take little room in a report.
    """
    others = [
        (model, condition, site)
        for model, own in sites.items()
        for condition in CONDITIONS
        for site in dict.fromkeys((own[0], own[-1]))
    ]
    groups = {}
    for number, (model, own) in enumerate(sites.items()):
        rng, coords = np.random.default_rng(len(own) + number), _coords(own)
        groups[f"/{model}/similarity"] = described(_matrices(own, images, rng, coords))
        groups[f"/{model}/rsa"] = described(_rsa(own, others, rng, coords))
        groups[f"/{model}/cka_matrix"] = described(_cka(own, others, rng, coords))
    return groups


def _coords(sites) -> dict:
    return {
        "condition": list(CONDITIONS),
        "family": ("condition", ["clean", "Gaussian noise"]),
        "eps": ("condition", [0.0, 0.1]),
        "site": list(sites),
        "kind": ("site", ["Conv2d"] * len(sites)),
        "order": ("site", np.arange(len(sites))),
        "depth": ("site", (1 + np.arange(len(sites))) / len(sites)),
    }


def _matrices(sites, images, rng, coords) -> xr.Dataset:
    pixels = np.random.default_rng(0).normal(size=(images, 8))
    mixed = pixels + rng.normal(size=(len(CONDITIONS), len(sites), images, 8))
    places = {"image": np.arange(images), "other_image": np.arange(images)}
    return xr.Dataset(
        {
            "similarity": (("condition", "site", "image", "other_image"), _cosines(mixed)),
            "mean_similarity": (("condition", "site"), _cosines(mixed).mean((2, 3))),
            "pixel_similarity": (("image", "other_image"), _cosines(pixels)),
        },
        coords | places,
        {"measure": "cosine"},
    )


def _cosines(rows) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return (unit @ np.swapaxes(unit, -1, -2)).round(2)


def _others(others, references=()) -> dict:
    names = [*((reference, "", "") for reference in references), *others]
    parts = zip(("other_model", "other_condition", "other_site"), zip(*names, strict=True), strict=True)
    return {"other": ["/".join(filter(None, name)) for name in names]} | {
        part: ("other", list(values)) for part, values in parts
    }


def _estimated(name, values) -> dict:
    dims = ("condition", "site", "other")
    values = values.round(1)
    bounds = np.clip(values[..., None] + np.array([-0.1, 0.1]), -1, 1)
    return {name: (dims, values), f"{name}_interval": ((*dims, "bound"), bounds)}


def _rsa(sites, others, rng, coords) -> xr.Dataset:
    shape = (len(CONDITIONS), len(sites), 1 + len(others))
    estimates = {
        name: each
        for kind in ("pearson", "spearman")
        for name, each in _estimated(kind, rng.uniform(-0.2, 1, shape)).items()
    }
    p = {f"{kind}_p": (("condition", "site", "other"), rng.random(shape).round(1)) for kind in ("pearson", "spearman")}
    bins, level = 8, np.linspace(-0.9, 0.9, 8)
    joint = rng.poisson(20 * np.exp(-8 * (level[:, None] - level) ** 2), (*shape[:2], 1, bins, bins))
    binned = {
        "joint": (("condition", "site", "reference", "level", "reference_level"), joint),
        "level_value": (("condition", "site", "level"), np.broadcast_to(level, (*shape[:2], bins)).copy()),
        "reference_level_value": (("reference", "reference_level"), level[None]),
    }
    return xr.Dataset(estimates | p | binned, coords | _others(others, ["pixels"]) | {"reference": ["pixels"]})


def _cka(sites, others, rng, coords) -> xr.Dataset:
    values = rng.uniform(0, 1, (len(CONDITIONS), len(sites), len(others)))
    return xr.Dataset(_estimated("cka", values), coords | _others(others))

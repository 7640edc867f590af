"""What `npb.polarization` gives, drawn from three bells, and what other views of the layers of defenses do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr


def polarization(rng: np.random.Generator, described: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Three stages, whose outputs move from around 0 to -1, 0 and 1."""
    centres = -0.99 + 0.02 * np.arange(100)
    bells = [sum(np.exp(-((centres - at) ** 2) / (2 * width**2)) for at in (-move, 0, move)) for move, width in SHAPES]
    density = np.stack([bell / bell.sum() * 50 for bell in bells])
    danger = np.array([0.1, 0.3, 0.05]) + 0.01 * rng.random(3)
    shares = {"danger": danger, "centre": 0.9 - danger, "extreme": danger / 2}
    weight = rng.normal(size=(3, 25, 1, 5, 5))
    flat = np.abs(weight).reshape(3, 25, 25)
    return described(
        xr.Dataset(
            {name: ("stage", values) for name, values in shares.items()}
            | {
                f"{name}_interval": (("stage", "bound"), np.stack([v - 0.01, v + 0.01], 1))
                for name, v in shares.items()
            }
            | {
                "density": (("stage", "bin"), density),
                "threshold": ("stage", np.full(3, 0.5)),
                "weight": (("stage", "filter", "channel", "row", "column"), weight),
                "flatness": (("stage", "filter"), flat.sum(2) ** 2 / (flat**2).sum(2)),
            },
            {"stage": ["stage 1", "stage 2", "trained"], "bin": centres, "bound": ["low", "high"]},
            {"title": "polarization", "eps": 0.3},
        )
    )


def firing(site: dict, rng: np.random.Generator, described: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Twelve channels a site, the first of which fires ever more often; eight at the last site."""
    sites = len(site["site"][1])
    frequency = rng.beta(2, 15, (sites, 12))
    frequency[:, 0] = np.linspace(0.5, 0.99, sites)
    frequency[-1, 8:] = np.nan
    bounds = np.stack([frequency - 0.01, frequency + 0.01], -1)
    found = {
        "frequency": (("site", "channel"), frequency),
        "frequency_interval": (("site", "channel", "bound"), bounds),
        "always": ("site", (frequency > 0.95).sum(1)),
        "even": ("site", np.full(sites, 2 / 12)),
    }
    return described(xr.Dataset(found, site | {"channel": np.arange(12)}, {"title": "firing", "top": 0.1}))


def prototypes(rng: np.random.Generator, described: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Thirty units of 25 weights, the five of the largest variance pruned."""
    weight = rng.normal(size=(30, 1, 5, 5)) * np.geomspace(0.02, 0.5, 30)[:, None, None, None]
    variance, kept = weight.reshape(30, -1).var(1), np.arange(30) < 25
    found = {
        "weight": (
            ("stage", "place", "channel", "row", "column"),
            np.stack([weight[::3], weight[:25:3][:10].repeat(2, 0)[:10]]),
        ),
        "variance": ("unit", variance),
        "norm": ("unit", np.linalg.norm(weight.reshape(30, -1), 3, axis=1)),
        "kept": ("unit", kept),
        "attempt": (("number", "quantity"), [[0.5, 0.0, 0.9], [0.95, 0.0, 0.9]]),
        "outcome": ("quantity", [0.95, 0.0, 0.9]),
    }
    coords = {
        "stage": ["before", "after"],
        "unit": np.arange(30),
        "quantity": ["converged", "negative", "winning"],
        "number": [1, 2],
    }
    attrs = {
        "title": "prototypes",
        "layer": "hidden",
        "p": 3.0,
        "cutoff": float(variance[24:26].mean()),
        "pruned": 5 / 30,
    }
    return described(xr.Dataset(found, coords, attrs))


def dictionary(rng: np.random.Generator, described: Callable[..., xr.Dataset]) -> dict[str, xr.Dataset]:
    """Sixteen atoms of 3 x 3 pixels, and a code that keeps the four largest of its coefficients."""
    weight, value = rng.normal(size=(16, 1, 3, 3)), rng.normal(size=16)
    top = np.where(np.abs(value) >= np.sort(np.abs(value))[-4], value, 0)
    steps = np.stack([value, top, top, 3 * np.sign(top)])
    atoms = {
        "weight": (("atom", "channel", "row", "column"), weight),
        "length": ("atom", rng.uniform(1, 3, 16)),
        "brightness": ("atom", rng.uniform(-1, 1, 16)),
        "use": ("atom", rng.dirichlet(np.ones(16)) * 4),
        "outcome": ("quantity", [2.0, 0.1, 0.3, 0.2]),
    }
    quantities = ["mean length", "nearly uniform", "coherence", "idle"]
    code = {"value": (("step", "atom"), steps), "left": ("step", (steps != 0).sum(1))}
    names = ["projections", "top-T", "dropout", "quantised"]
    about = {"title": "code of a patch", "row": 1, "column": 2, "top": 4, "dropout": 0.0}
    return {
        "atoms": described(xr.Dataset(atoms, {"atom": np.arange(16), "quantity": quantities}, {"title": "atoms"})),
        "code": described(xr.Dataset(code, {"step": names, "atom": np.arange(16)}, about)),
    }


SHAPES = ((0.1, 0.15), (0.7, 0.3), (1.0, 0.08))

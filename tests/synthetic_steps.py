"""What `npb.settling` and `npb.lateral_map` give, drawn from exponentials instead of networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

STEPS = 9


def settling(
    fragile: bool, images: int, rng: np.random.Generator, described: Callable[..., xr.Dataset], wilson: Callable
) -> xr.Dataset:
    """Energies that fall from 100 towards 3, clean and perturbed; T is 4 of 8 steps."""
    fall = np.exp(-np.arange(STEPS) / 2)
    level = np.array([1.0, 1.1])[:, None] * rng.uniform(0.9, 1.1)
    lateral, reconstruction = level * (2 + 90 * fall), level * (1 + 8 * fall)
    accuracy = np.array([[0.95], [0.3 if fragile else 0.7]]) * (1 - 0.2 * fall)
    found = {
        "energy": lateral + reconstruction,
        "lateral": lateral,
        "reconstruction": reconstruction,
        "residual": level * (0.2 + 0.7 * fall),
        "capped": np.zeros((2, STEPS)),
        "probability": 0.9 * accuracy,
        "accuracy": accuracy,
    }
    dims = ("condition", "step")
    bounds = {name: np.stack([0.98 * values, 1.02 * values], -1) for name, values in found.items()}
    bounds["accuracy"] = wilson(accuracy, images)
    variables = {name: (dims, values) for name, values in found.items()}
    variables |= {f"{name}_interval": ((*dims, "bound"), values) for name, values in bounds.items()}
    attrs = {"title": "how activations settle", "steps": 4, "eta": 0.25, "curvature": 9.0, "largest_safe_step": 2 / 9}
    coords = {"condition": ["clean", "pgd"], "step": np.arange(STEPS)}
    return described(xr.Dataset(variables, coords, attrs | {"layer": "linear1"}))


def lateral(rng: np.random.Generator, described: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Twelve of sixty units."""
    weight, units = rng.normal(size=(12, 12)), np.linspace(0, 59, 12).round().astype(int)
    np.fill_diagonal(weight, 0)
    coords = {"unit": units, "other": units, "share": [0.5, 1.0]}
    found = {"weight": (("unit", "other"), weight), "size": ("share", np.quantile(np.abs(weight), [0.5, 1]))}
    return described(xr.Dataset(found, coords, {"title": "lateral weights", "units": 60}))

"""Outcomes as labelled Datasets: every image under every condition, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from torch import nn

from netprobe.evaluation.conditions import Condition
from netprobe.evaluation.running import Table
from netprobe.metrics.base import interval, variable
from netprobe.uncertainty import bootstrap_interval, wilson_intervals

PER_IMAGE = {
    "prediction": ("predicted class", "class", "index of the largest logit at x'; -1: not evaluated"),
    "fooled": (
        "fooled during the attack",
        "1",
        "1 if the attack itself says that it fooled the model; -1: not evaluated",
    ),
    "loss": ("cross-entropy", "nat", "-log softmax(z)_y at x'"),
    "margin": ("margin", "logit", "z_y - max_{j != y} z_j at x'; negative where the model errs"),
    "size_linf": ("size of the perturbation, L∞", "input", "max |x' - x|"),
    "size_l2": ("size of the perturbation, L2", "input", "(sum (x' - x)^2)^(1/2)"),
    "size_l1": ("size of the perturbation, L1", "input", "sum |x' - x|"),
    "size_l0": ("size of the perturbation, L0", "coordinates", "number of coordinates where x' is not x"),
    "lowest": ("smallest value", "input", "min x'"),
    "highest": ("largest value", "input", "max x'"),
    "forwards": (
        "forward passes",
        "passes",
        "forward passes (queries) spent on the image; -1: not evaluated or unknown",
    ),
    "backwards": ("backward passes", "passes", "backward passes spent on the image; -1: not evaluated or unknown"),
}
OF_CLEAN = {
    "gradient_norm": ("norm of the gradient of the cross-entropy", "nat / input", "L2 norm, clean image, own label"),
    "margin_gradient_norm": ("norm of the gradient of the margin", "logit / input", "L2 norm, clean image, own label"),
}
BROKEN_BY = "the part of a composite attack, or the declared backward pass, that fooled the model first; '' if none did"
WILSON = "Wilson score interval"
TINY_GRADIENT = 1e-30
"""A gradient of no greater norm is as good as none: the float32 numbers of its coordinates come to an end."""


def condition_coords(conditions: Sequence[Condition]) -> dict[str, tuple[str, list]]:
    """Coordinates along `condition`: family, strength, norm of the ball, role."""
    columns = {"condition": [each.name for each in conditions]}
    columns |= {name: [getattr(each, name) for each in conditions] for name in ("family", "eps", "norm", "role")}
    return {name: ("condition", values) for name, values in columns.items()}


def correct_of(table: Table, label: np.ndarray) -> np.ndarray:
    """1 where the model is right, 0 where it errs, -1 where it was not asked; int8."""
    return np.where(table.done, table["prediction"] == label, -1).astype(np.int8)


def share(dims: str, correct: np.ndarray, long_name: str, definition: str) -> dict[str, xr.Variable]:
    """The share of ones among what is not -1 along the last axis, NaN if nothing is, and its Wilson interval."""
    known, right = (correct >= 0).sum(-1), (correct == 1).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = variable(dims, right / known, long_name, "1", definition)
    return {"": accuracy, "_interval": interval(dims, wilson_intervals(right, known), accuracy, WILSON)}


def evaluation(
    tables: Mapping[str, Table], conditions: Sequence[Condition], label: np.ndarray, model: nn.Module
) -> xr.Dataset:
    """/<model>/evaluation: every image under every condition (see PER_IMAGE), accuracy, mean loss, cost."""
    rows = [tables[each.name] for each in conditions]
    correct = np.stack([correct_of(row, label) for row in rows])
    both = "condition image"
    found = {k: variable(both, np.stack([row[k] for row in rows]), *about) for k, about in PER_IMAGE.items()}
    found |= {k: variable("image", rows[0][k], *about) for k, about in OF_CLEAN.items()}
    tried = [parts_of(each, model) for each in conditions]
    broken = np.stack([_broken_by(row["broken_by"], parts) for row, parts in zip(rows, tried, strict=True)])
    found |= {
        "label": variable("image", label, "label", "class", "index of the true class"),
        "correct": variable(both, correct, "correct", "1", "1 if predicted as labelled at x'; -1: not evaluated"),
        "broken_by": variable(both, broken, "broken by", "1", BROKEN_BY),
        **_named("accuracy", share("condition", correct, "accuracy", "share of images classified as labelled")),
        **_mean("mean_loss", found["loss"].values, "mean cross-entropy", "nat", "mean over images of the loss"),
        "images": variable("condition", (correct >= 0).sum(1), "images", "1", "number of images evaluated"),
        "zero_gradients": _zero_gradients(rows[0]),
    }
    bounds = {"bound": ["low", "high"]}
    return xr.Dataset(found, condition_coords(conditions) | {"image": np.arange(len(label))} | bounds)


def parts_of(condition: Condition, model: nn.Module) -> tuple[str, ...]:
    """What it tries in turn: the parts of a composite attack, or the backward passes that `model` declares."""
    attack = condition.perturbation
    if hasattr(attack, "parts"):
        return tuple(attack.parts)
    return attack.passes(model) if hasattr(attack, "passes") else ()


def _broken_by(numbers: np.ndarray, parts: tuple[str, ...]) -> np.ndarray:
    return np.array([parts[n] if 0 <= n < len(parts) else "" for n in numbers], dtype=object)


def _named(stem: str, parts: Mapping[str, xr.Variable]) -> dict[str, xr.Variable]:
    return {f"{stem}{suffix}": part for suffix, part in parts.items()}


def _mean(stem: str, values: np.ndarray, *about: str) -> dict[str, xr.Variable]:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        means = variable("condition", np.where(known, values, 0).sum(1) / known.sum(1), *about)
    return {stem: means, f"{stem}_interval": interval("condition", bootstrap_interval(values), means, "bootstrap")}


def _zero_gradients(clean: Table) -> xr.Variable:
    norms = clean["gradient_norm"][clean.done]
    vanished = float(np.mean(~(norms > TINY_GRADIENT))) if len(norms) else np.nan
    about = f"share of clean images whose cross-entropy has no gradient, or one of L2 norm below {TINY_GRADIENT:g}"
    return variable("", vanished, "images without a gradient", "1", about)

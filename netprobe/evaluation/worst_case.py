"""The worst of all attacks, image by image, for every budget that an attack was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from netprobe.evaluation.conditions import CLEAN, Condition
from netprobe.evaluation.datasets import correct_of, share
from netprobe.evaluation.running import Table
from netprobe.fields import spellings
from netprobe.metrics.base import variable

SLACK = 1e-6
"""How far outside its ball the rounding of float32 may put a perturbation."""
SYMBOLS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


def worst_case(tables: Mapping[str, Table], conditions: Sequence[Condition], label: np.ndarray) -> xr.Dataset | None:
    """/<model>/worst_case: for every budget (norm, eps) of an attack, which images stand against all of them.

    An image falls to a budget when the model errs on it clean, or on what any attack made of it whose measured size
    is within the budget. So an attack of smaller eps counts, as do one that looks for the nearest error and one in
    another norm, wherever what they found is inside the ball. Noise and corruptions do not count. `broken_by` names
    the first condition, in their order, that the image falls to; "" if it stands. None without any budget.
    """
    budgets = sorted({each.budget for each in conditions if each.budget and each.eps > 0}, key=_order)
    if not budgets:
        return None
    attacks = [each for each in conditions if each.role in (CLEAN, "attack", "minimum norm")]
    broken = [_broken(tables, attacks, label, *each) for each in budgets]
    names = np.array([*(each.name for each in attacks), ""], dtype=object)
    first = np.stack([np.where(each.any(0), each.argmax(0), len(attacks)) for each in broken])
    known = np.all([tables[each.name].done for each in attacks], axis=0)
    stands = np.where(known | (first < len(attacks)), first == len(attacks), -1).astype(np.int8)
    accuracy = share("budget", stands, "worst-case accuracy", "share of images that no attack within the budget broke")
    both = "budget image"
    found = {
        "worst_correct": variable(both, stands, "stands", "1", "1 if no attack broke it; 0 if one did; -1: not known"),
        "broken_by": variable(both, names[first], "broken by", "1", "first condition that broke the image; '' if none"),
        "worst_accuracy": accuracy[""],
        "worst_accuracy_interval": accuracy["_interval"],
    }
    coords = {
        "budget": ("budget", _names(budgets)),
        "norm": ("budget", [norm for norm, _ in budgets]),
        "eps": ("budget", [eps for _, eps in budgets]),
        "image": np.arange(len(label)),
        "bound": ["low", "high"],
    }
    return xr.Dataset(found, coords)


def _names(budgets: Sequence[tuple[str, float]]) -> list[str]:
    """Such as "L∞ 8/255"."""
    texts = spellings([eps for _, eps in budgets])
    return [f"{SYMBOLS.get(norm, norm)} {text}" for (norm, _), text in zip(budgets, texts, strict=True)]


def _order(budget: tuple[str, float]) -> tuple[int, float]:
    norms = list(SYMBOLS)
    return (norms.index(budget[0]) if budget[0] in norms else len(norms), budget[1])


def _broken(
    tables: Mapping[str, Table], attacks: Sequence[Condition], label: np.ndarray, norm: str, eps: float
) -> np.ndarray:
    """(attack, image): whether the model errs on what the attack made, inside the ball."""
    return np.stack(
        [(correct_of(tables[each.name], label) == 0) & _inside(each, tables[each.name], norm, eps) for each in attacks]
    )


def _inside(condition: Condition, table: Table, norm: str, eps: float) -> np.ndarray:
    """Measured; of a norm that is not measured, an attack's word is taken for its own ball."""
    if f"size_{norm}" in table.columns:
        return table[f"size_{norm}"] <= eps * (1 + SLACK) + SLACK
    own = condition.role == CLEAN or (condition.norm == norm and condition.eps <= eps)
    return np.full(len(table.done), own)

"""Which settings of a regulariser to use: by what they cost on clean images, and what they bring on perturbed ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from netprobe import data as datasets
from netprobe.data import Data
from netprobe.defenses.regularisers import Regulariser, parse_regulariser
from netprobe.errors import NetprobeError
from netprobe.evaluation import evaluate
from netprobe.fields import refuse_unknown, spelled
from netprobe.metrics.base import interval, variable
from netprobe.recipes import Recipe
from netprobe.store import made_folder, save_results
from netprobe.training.fitting import fit
from netprobe.training.trained import Trained
from netprobe.uncertainty import LEVEL, resampled_means

PLAIN = "plain"
"""What the network without the term is called."""
RESULTS = "selection.nc"
ROUNDING = 1e-9
"""0.72 / 0.8 is below 0.9 in floating point."""


@dataclass(frozen=True, eq=False)
class Selection:
    """What became of every candidate, the table of it, and the one to use; None where none is good enough."""

    candidates: Mapping[str, Regulariser]
    trained: Mapping[str, Trained]
    table: xr.Dataset
    chosen: str | None

    def __repr__(self) -> str:
        lines = [f"Selection({self.chosen or 'none is accepted'})"]
        for name in self.table["candidate"].values:
            at = self.table.sel(candidate=name)
            verdict = "" if name == PLAIN else " accepted" if bool(at["accepted"]) else " refused"
            shown = (f"{key.replace('_', ' ')} {_shown(at, key)}" for key in ("accuracy", "ratio", "robust_accuracy"))
            lines.append(f"  {name}: {', '.join(shown)}{verdict}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def select_regulariser(
    regulariser: str | Regulariser,
    grid: Mapping[str, Sequence[Any]],
    model: str | nn.Module,
    data: str | Data,
    recipe: str | Recipe | None = None,
    *,
    defense: str = "natural",
    perturbation: Any = "gaussian:std=0.1",
    least: float = 0.9,
    held_out: float = 0.1,
    out: str | Path | None = None,
    **settings: Any,
) -> Selection:
    """Train with every combination of settings in `grid` and without the term, and choose.

    A candidate is accepted if R_0 / U_0 >= `least`, R_0 and U_0 the clean accuracies with and without it; of those
    accepted the one of the largest accuracy under `perturbation` is chosen, of equal ones that of larger R_0.

    Parameters
    ----------
    regulariser, grid : what to start from, and values by setting: {"coupling": [1, 4, 10], "threshold": [0.4, 0.8]}
    model, data, recipe, defense, settings : as for `netprobe.fit`; the same seed for all
    held_out : share of `data` that none is trained on, every class its part; the accuracies are of these images. So
        a regulariser that needs every image of `data` is refused, such as similarity with a target of its own for them
    out : a folder for every training, the evaluation and selection.nc; the same call goes on from there

    Returns a `Selection`; its table, over `candidate` ("plain" first): accuracy and robust_accuracy with Wilson
    intervals, ratio = R_0 / U_0 with a bootstrap interval over images, the same for both accuracies (NaN where U_0 is
    0), and whether it is accepted. The rule looks at the ratio, not at its interval: with few images it is a guess.
    What is chosen by these images is not to be judged by them. Cost: a training for every combination, and one more.
    Errors: as for `netprobe.fit`.
    """
    start = parse_regulariser(regulariser)
    candidates = _candidates(start, grid)
    everything = datasets.load(data, "train") if isinstance(data, str) else data
    train, judged = _parted(everything, held_out, settings.get("seed", 0))
    plain = dataclasses.replace(start, coupling=0.0)
    folder = None if out is None else made_folder(out)
    trained = {
        name: fit(defense, model, train, recipe, regularise=each, out=_within(folder, name), name=name, **settings)
        for name, each in {PLAIN: plain, **candidates}.items()
    }
    networks = {name: each.model for name, each in trained.items()}
    quiet = {"doubts": False, "preflight": False, "progress": settings.get("progress", True)}
    tree = evaluate(networks, judged, {"perturbed": perturbation}, folder=_within(folder, "evaluation"), **quiet)
    table = _table(tree, least)
    if folder is not None:
        save_results(xr.DataTree.from_dict({"selection": table}), folder / RESULTS)
    return Selection(candidates, trained, table, table.attrs["chosen"] or None)


def _candidates(start: Regulariser, grid: Mapping[str, Sequence[Any]]) -> dict[str, Regulariser]:
    """Every combination, by what is varied."""
    refuse_unknown(type(start), grid, start.name)
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    named = {_name(each): each for each in combinations}
    if not all(named):
        raise NetprobeError("there is nothing to select from: give values of a setting, such as coupling=1,4,10")
    if len(named) < len(combinations):
        raise NetprobeError(
            "two candidates have the same name, since values are given twice or differ by / and _ alone: "
            f"{_twice(map(_name, combinations))}; give each value once, and files other names"
        )
    found = {name: dataclasses.replace(start, **each) for name, each in named.items()}
    for name, each in found.items():
        if each.coupling == 0:
            raise NetprobeError(f"{name!r} has no coupling, and is what others are compared with anyway")
    for one in (start, *found.values()):
        if one.ordered:
            raise NetprobeError(
                f"{one!r} needs all images that are given for training, and some are held out here to judge by: "
                "give it images of another set (images=...)"
            )
    return found


def _name(settings: Mapping[str, Any]) -> str:
    """What is varied, as folders and results can be called."""
    return ",".join(f"{key}={spelled(value)}" for key, value in settings.items()).replace("/", "_")


def _twice(names: Iterable[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)


def _parted(data: Data, share: float, seed: int) -> tuple[Data, Data]:
    """Images to train on, and images to judge by."""
    count = round(share * len(data))
    if not 0 < count < len(data):
        raise NetprobeError(
            f"held_out={share:g} of {len(data):,} images must leave some to train on and some to judge by"
        )
    return data.parted(count, seed)


def _within(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name


def _table(tree: xr.DataTree, least: float) -> xr.Dataset:
    names = [PLAIN, *(name for name in tree.children if name != PLAIN and "evaluation" in tree[name].children)]
    each = [tree[name]["evaluation"].to_dataset() for name in names]
    clean, robust = ([data.sel(condition=kind) for data in each] for kind in ("clean", "perturbed"))
    right = np.stack([data["correct"].values for data in clean]).astype(float)
    ratio, resampled = _over_first(right.mean(1)), _over_first(resampled_means(right))
    about = "clean accuracy over that without the term"
    found = {"ratio": variable("candidate", ratio, "ratio of clean accuracies", "1", about)}
    bounds = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=-1).T
    found["ratio_interval"] = interval("candidate", bounds, found["ratio"], "bootstrap over images")
    for key, parts in (("accuracy", clean), ("robust_accuracy", robust)):
        first = parts[0]["accuracy"].attrs
        values = np.array([float(part["accuracy"]) for part in parts])
        found[key] = variable("candidate", values, key.replace("_", " "), "1", first["definition"])
        wilson = np.stack([part["accuracy_interval"].values for part in parts])
        found[f"{key}_interval"] = interval("candidate", wilson, found[key], "Wilson score interval")
    accepted = ratio >= least - ROUNDING
    found["accepted"] = variable("candidate", accepted, "accepted", "1", f"ratio at least {least:g}")
    order = sorted(range(1, len(names)), key=lambda k: (found["robust_accuracy"][k], right[k].mean()), reverse=True)
    chosen = next((names[k] for k in order if accepted[k]), "")
    return xr.Dataset(found, {"candidate": names, "bound": ["low", "high"]}, {"chosen": chosen, "least": least})


def _over_first(values: np.ndarray) -> np.ndarray:
    """`values` over the first of them; NaN where that is 0."""
    return np.divide(values, values[0], out=np.full_like(values, np.nan), where=values[0] > 0)


def _shown(at: xr.Dataset, key: str) -> str:
    low, high = at[f"{key}_interval"].values
    return f"{float(at[key]):.3f} [{low:.3f}, {high:.3f}]"

"""Evaluating networks for a published table, and their results beside its numbers."""

from __future__ import annotations

import fnmatch
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import xarray as xr

import netprobe as npb
from netprobe.cli.models import load_all
from netprobe.perturb.backward import declared_passes
from netprobe.uncertainty import t_interval, wilson

WORST = "worst"
"""The column of images that stand every attack there was."""
BRACKETS = "in brackets: the work, on its own data"
KEPT = (
    "std",
    "version",
    "severity",
    "eps",
    "norm",
    "loss",
    "steps",
    "step_size",
    "restarts",
    "random_start",
    "eot",
    "normalised",
    "spread",
)


def evaluated(results: xr.DataTree, what: str = "evaluation") -> list[str]:
    """The networks that the results are of; of another metric than the evaluation, `what`."""
    return [name for name in results.children if what in results[name].children]


def table(results: xr.DataTree, shown: Sequence[str], paper: Mapping[str, tuple[float | None, ...]]) -> list[str]:
    """A line for each network, in Markdown: ours with its Wilson interval, and the published number in brackets.

    Conditions that a network was not evaluated under are left empty.
    """
    return [_line(name, results[name]["evaluation"], shown, paper.get(name)) for name in evaluated(results)]


def _line(name: str, evaluation: xr.DataTree, shown: Sequence[str], paper: tuple[float | None, ...] | None) -> str:
    numbers = paper or (None,) * len(shown)
    cells = [_cell(evaluation, each, number) for each, number in zip(shown, numbers, strict=True)]
    return f"| {name} | " + " | ".join(cells) + " |"


def standing(results: xr.DataTree, groups: Mapping[str, str]) -> xr.DataTree:
    """The results with a condition for each of `groups`, beside clean: the images that are right under clean and under
    all conditions that the group's pattern matches.
    """
    trees = {name: _standing(results[name]["evaluation"]["correct"], groups) for name in evaluated(results)}
    found = xr.DataTree.from_dict({f"/{name}/evaluation": each for name, each in trees.items()})
    found.attrs = dict(results.attrs)
    return found


def _standing(correct: xr.DataArray, groups: Mapping[str, str]) -> xr.Dataset:
    patterns, names = {"clean": "clean"} | dict(groups), correct["condition"].values.tolist()
    chosen = [["clean", *fnmatch.filter(names, pattern)] for pattern in patterns.values()]
    least = xr.concat([correct.sel(condition=each).min("condition") for each in chosen], "condition")
    return xr.Dataset({"correct": least.assign_coords(condition=list(patterns))})


def check(results: xr.DataTree, conditions: Sequence[str]) -> None:
    """End with an error if a network was not evaluated under one of them."""
    for name in evaluated(results):
        missing = set(conditions) - set(results[name]["evaluation"]["condition"].values)
        if missing:
            sys.exit(f"{name} was not evaluated under {', '.join(sorted(missing))}: give the attacks these names")


def head(shown: Sequence[str]) -> list[str]:
    """The first two lines of such a table."""
    return ["| | " + " | ".join(shown) + " |", "|" + "---|" * (len(shown) + 1)]


def _cell(evaluation: xr.DataTree, condition: str, number: float | None) -> str:
    """An accuracy in per cent, its interval, and the published number; of the images that were seen to."""
    correct = evaluation["correct"]
    if condition != WORST and condition not in correct["condition"]:
        return ""
    each = correct.min("condition") if condition == WORST else correct.sel(condition=condition)  # -1: not yet known
    right = each.values[each.values >= 0]
    low, high = (100 * bound for bound in wilson(int(right.sum()), len(right)))
    paper = "" if number is None else f" (paper {number:g})"
    return f"{100 * right.mean():.1f} [{low:.1f}, {high:.1f}]{paper}"


def settings_of(results: xr.DataTree) -> list[str]:
    """How many images, and every attack; those of the same settings on one line."""
    provenance, named = json.loads(results.attrs["provenance"]), defaultdict(list)
    for name, each in provenance["perturbations"].items():
        named[_attack(each)].append(name)
    lines = [f"{provenance['data']['name']}, {provenance['data']['samples']:,} images"]
    return lines + [f"{', '.join(names)}: {settings}" for settings, names in named.items()]


def _attack(about: Mapping) -> str:
    if "surrogate" in about:
        return f"{about['attack']}, made on another network"
    shown = [f"{key}={_short(about[key])}" for key in KEPT if key in about]
    if "backward" in about:
        shown.append(f"backward passes: {about['backward'] or 'all declared'}")
    return ", ".join(shown)


def _short(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value


def ways(results: xr.DataTree, conditions: Sequence[str]) -> list[str]:
    """Which backward pass broke how many images, of networks that declare several."""
    lines = []
    for name in evaluated(results):
        for condition in conditions:
            broken = results[name]["evaluation"]["broken_by"].sel(condition=condition).values.astype(str)
            counts = {way: int((broken == way).sum()) for way in dict.fromkeys(broken) if way}
            if counts:
                listed = ", ".join(f"{way} {n}" for way, n in counts.items())
                lines.append(f"{name}, broken by {condition}: {listed}")
    return lines


def over_seeds(values: Sequence[float] | np.ndarray) -> str:
    """The mean of several seeds and its 95 % t interval."""
    return estimate(float(np.mean(values)), *t_interval(np.asarray(values)))


def estimate(value: float, low: float, high: float) -> str:
    """A number and its interval, to three digits."""
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def conditions(results: xr.DataTree) -> list[str]:
    """Under what all networks of an evaluation were evaluated: "clean" first, then the attacks."""
    (name, *_) = evaluated(results)
    return list(map(str, results[name]["evaluation"]["condition"].values))


def rows(
    trees: Iterable[xr.DataTree], shown: Sequence[str], paper: Mapping[str, tuple[float | None, ...]]
) -> list[str]:
    """The table of one evaluation or several, in per cent, and of how many images and under which attacks."""
    every = list(trees)
    lines = [*head(shown), *(line for tree in every for line in table(tree, shown, paper))]
    about = dict.fromkeys(line for tree in every for line in settings_of(tree))
    return [*lines, "", *about, *([BRACKETS] if paper else [])]


def norms(results: xr.DataTree, attack: str, paper: Mapping[str, tuple[float | None, float | None]]) -> list[str]:
    """A line for each network: share of the images that a minimum-norm attack broke, mean and median norm of these."""
    lines = head(["broken, %", "mean norm", "median norm"])
    for name in evaluated(results, "minimum_norm"):
        found = results[name]["minimum_norm"].to_dataset().sel(condition=attack)
        share, mean, median = (float(found[each]) for each in ("success", "mean", "median"))
        low, high = (float(bound) for bound in found["mean_interval"])
        known = ["" if number is None else f" (paper {number:g})" for number in paper.get(name, (None, None))]
        lines.append(f"| {name} | {100 * share:.0f}{known[0]} | {estimate(mean, low, high)}{known[1]} | {median:.3g} |")
    return [*lines, "", *settings_of(results), BRACKETS]


def evaluating(folder: str) -> Callable:
    """The arguments and options of every script that evaluates: what `report` takes by keyword."""

    def decorated(command: Callable) -> Callable:
        for decorator in (
            click.argument("models", nargs=-1, required=True),
            click.option("--data", default="cifar10", show_default=True, help="Name or path of the images."),
            click.option("--limit", type=int, help="How many of them, every class its part; all by default."),
            click.option("--gradients", type=click.Choice(["bfloat16"]), help="Precision of attack gradients."),
            click.option("--batch-size", type=int, help="Images attacked at a time; told by memory by default."),
            click.option("-o", "--out", default=folder, show_default=True, type=click.Path(path_type=Path)),
        ):
            command = decorator(command)
        return command

    return decorated


def report(
    attacks: Callable[[str | None], dict[str, Any]],
    backward: str | None,
    shown: Sequence[str],
    paper: Mapping[str, tuple[float | None, ...]],
    *,
    models: Sequence[str],
    data: str,
    limit: int | None,
    out: Path,
    **settings: Any,
) -> None:
    """Evaluate every network under `attacks(way)`, way being `backward` for a front end and else None; print the table.

    Results are written to out/NAME.nc, network by network.
    """
    images, notes = npb.data.load(data, limit=limit), []
    networks = load_all(models, None)
    print(*head(shown), sep="\n")
    for name, network in networks.items():
        named = attacks(backward if declared_passes(network) else None)
        tree = npb.evaluate({name: network}, images, named, folder=out, doubts=False, **settings)
        npb.save_results(tree, out / f"{name}.nc")
        print(*table(tree, shown, paper), sep="\n", flush=True)
        notes += ["", f"{name}:", *settings_of(tree)]
    print(*notes, sep="\n")

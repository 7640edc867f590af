"""Accuracies beside what a probe measured: more perturbations, under which the layers need not be listened to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr
from torch import nn

from netprobe.data import Data
from netprobe.evaluation.evaluating import Interrupted, evaluate
from netprobe.groups import COMPARISON
from netprobe.store import provenance, stamped

PER_MODEL = (
    *("evaluation", "worst_case", "minimum_norm", "boundary_distance", "corruptions"),
    *("perturbation_spectrum", "spectrum_difference", "frequency_gains"),
)


def join(
    tree: xr.DataTree, models: Mapping[str, nn.Module], data: Data, perturbations: Any, **settings: Any
) -> xr.DataTree:
    """`tree`, the results of a probe of `models`, with what becomes of the images of `data` under `perturbations`.

    `settings` are those of `evaluate`, which see. The groups are those that it returns for each model, and the paired
    comparison; without doubts, since attacks are to be judged where they are evaluated by themselves. Ctrl-C raises
    `Interrupted`, whose results are those of the probe and what was done.
    """
    try:
        found = evaluate(models, data, perturbations, doubts=False, preflight=False, **settings)
    except Interrupted as stopped:
        raise Interrupted(_joined(tree, stopped.results)) from None
    return _joined(tree, found)


def _joined(tree: xr.DataTree, found: xr.DataTree) -> xr.DataTree:
    paths = [f"/{name}/{group}" for name in tree.children for group in PER_MODEL] + [f"/{COMPARISON}"]
    groups = found.to_dict()
    more = {path: groups[path] for path in paths if path in groups}
    return stamped(tree.to_dict() | more, provenance(tree) | {"evaluation": provenance(found)})

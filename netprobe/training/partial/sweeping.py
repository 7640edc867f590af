"""`sweep`: partial adversarial training at every code, cutoff and seed of a grid, by as many processes as one likes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.training.partial.claims import claim
from netprobe.training.partial.codes import MIXED, Code
from netprobe.training.partial.planning import Grid, grid_of
from netprobe.training.partial.study import Study
from netprobe.training.partial.units import Unit, chosen

POLL = 1.0
"""Seconds between looks at what other processes are at."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a sweep; `results` holds what was done, with NaN for what was not."""

    def __init__(self, results: xr.Dataset) -> None:
        super().__init__("the sweep was interrupted; .results holds what was done")
        self.results = results


def sweep(
    model: str | nn.Module,
    data: str | tuple[Data, Data],
    codes: str | Iterable[str | Code] = MIXED,
    cutoffs: str | Iterable[int | str] = "all",
    seeds: Iterable[int] = (0, 1, 2),
    *,
    out: str | Path,
    only: Sequence[str] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Train a network in two parts, in every way asked for, and see what each is worth.

    A cell is a code, a cutoff and a seed. Stage 1 trains the whole network; it is done once for all codes that begin
    alike with the same seed. Stage 2 freezes one part, re-initialises the other and trains it by the full recipe with
    a fresh optimiser (see `split`). Then all test images are shown, clean and under the test attack.

    Parameters
    ----------
    model : a name as for `netprobe.load`, or any network of layers that can be re-initialised, see `list_layers`. Its
        weights do not matter: stage 1 begins with every layer drawn anew from the seed.
    data : the name of a data set, of which the parts "train" and "test" are taken; or these two.
    codes : such as "A1N2,N1A2" (the four mixed ones by default), see `CODES`.
    cutoffs : how many layers are EARLY: "all" interior ones (with a single layer: every layer), "blocks" (none inside
        a residual block), numbers, or names of the first LATE layer; 0 and "end" are the ends.
    seeds : of initial weights, order, attacks: one repetition each.
    out : a folder. What is finished is kept there, and the same call goes on from there, also after a kill; another
        grid in the same folder computes only what is new. Several processes may share it: each unit is computed by
        one of them, and all return when all is done.
    only : labels of units (`netprobe partial --print-cells` lists them) to compute now, the others left.
    settings : see `planning.study_of`: natural, adversarial, recipe, test, device, batch_size, keep_models, progress,
        and any field of a `Recipe`.

    Returns
    -------
    Dataset over (code, cutoff, seed): clean_loss, clean_accuracy, adversarial_loss, adversarial_accuracy with 95 %
    intervals (over images; NaN where not computed); converged (1, 0, -1 not computed). whole_* (training, seed): the
    same of the networks of stage 1, the end points of every curve. mean_* (code) and mean_whole_* (training): means
    over what converged, with t intervals over seeds. computed_cells and failed_cells (code), trainable_parameters
    (code, cutoff), layer_parameters (place: all layers in their order). Coordinates: layer (cutoff), the first LATE
    layer; adversarial_layers and adversarial_parameters (code, cutoff).

    Larger accuracies are better, and so are smaller losses, but of a network that has not converged: its loss of
    log(classes) under attack looks good and means nothing. Errors come before the work. Ctrl-C raises `Interrupted`.
    """
    grid = grid_of(model, data, codes, cutoffs, seeds, out=out, **settings)
    try:
        run(grid, chosen(grid.units, only))
    except KeyboardInterrupt:
        raise Interrupted(grid.results()) from None
    return grid.results()


def run(grid: Grid, units: Sequence[Unit]) -> None:
    """Compute those of `units` that no process has computed yet; back when all are there.

    A unit that another process is at is left to it, and looked for again later: if that process was killed, its claim
    is gone, and so is the reason to wait.
    """
    study, left = grid.study, [unit for unit in units if grid.study.result(unit) is None]
    needed = [unit.stage1 for unit in left if not study.ready(unit) and unit.stage1 not in left]
    left = [*dict.fromkeys(needed), *left]
    with tqdm(total=len(left), desc="sweep", unit="cell", disable=not study.progress) as bar:
        while left:
            undone = [unit for unit in left if not _settled(study, unit)]
            bar.update(len(left) - len(undone))
            if len(undone) == len(left):
                time.sleep(POLL)
            left = undone


def _settled(study: Study, unit: Unit) -> bool:
    """Whether the result of a unit is there, now at the latest."""
    if study.result(unit) is not None:
        return True
    if not study.ready(unit):
        return False
    with claim(study.place("claims", unit)) as ours:
        if ours and study.result(unit) is None:  # nobody finished it since we looked
            study.compute(unit)
        return ours

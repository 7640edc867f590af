"""`evaluate`: models, data and perturbations in; what became of every image out. It can be killed and goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from netprobe import perturb
from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.errors import unknown
from netprobe.evaluation.archive import Archive
from netprobe.evaluation.boundary_distance import boundary_distances
from netprobe.evaluation.comparison import comparison
from netprobe.evaluation.conditions import Condition, conditions_of
from netprobe.evaluation.corruption_table import corruption_table
from netprobe.evaluation.datasets import evaluation
from netprobe.evaluation.doubts import doubts
from netprobe.evaluation.minimum_norm import minimum_norms
from netprobe.evaluation.rehearsal import rehearse
from netprobe.evaluation.running import Runner, Table
from netprobe.evaluation.spectra import minimal_spectra, relative_to_first
from netprobe.evaluation.worst_case import worst_case
from netprobe.probing.probe import named_models, named_perturbations
from netprobe.settings import EvaluateSettings
from netprobe.store import model_card, stamped, versions

Tables = dict[str, dict[str, Table]]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during an evaluation; `results` holds what was done, with -1 or NaN for what was not."""

    def __init__(self, results: xr.DataTree) -> None:
        super().__init__("the evaluation was interrupted; .results holds what was done")
        self.results = results


def evaluate(
    models: nn.Module | Mapping[str, nn.Module],
    data: Data | Any,
    perturbations: Any = "pgd:eps=8/255,steps=20",
    *,
    folder: str | Path | None = None,
    **settings: Any,
) -> xr.DataTree:
    """What becomes of every image under every perturbation, for one or more models; and whether to believe it.

    models          an nn.Module on inputs in [0, 1], or several by name
    data            a `Data`, or anything `netprobe.data.load` takes
    perturbations   as in `netprobe.probe`; for curves a `netprobe.sweep`, and `netprobe.evaluation.corruptions()`.
                    None for clean images alone
    folder          where finished units of work are kept, so that the same call goes on from there after a kill,
                    and another call computes only what is new; None keeps them in memory
    settings        the fields of `EvaluateSettings`

    Returns a DataTree; a model's Datasets are
        /<model>/evaluation     dims condition ("clean" and the perturbations), image: correct, prediction, loss,
                                margin, sizes of x' - x, passes; accuracy with its Wilson interval; see
                                `datasets.PER_IMAGE`
        /<model>/worst_case     for every budget (norm, eps): which images stand against all attacks, what broke others
        /<model>/minimum_norm   of attacks that look for the nearest error: norms, success, mean and median
        /<model>/boundary_distance  of those in L2: squared distances per coordinate, medians over images and repeats
        /<model>/perturbation_spectrum  with spectra=True: spatial frequencies of what attacks that look for the nearest
                                error change, see `netprobe.fourier.spectra`
        /<model>/spectrum_difference, /<model>/frequency_gains  likewise, of all models but the first, relative to it;
                                see `netprobe.fourier.comparison`
        /<model>/corruptions    of common corruptions: accuracy(corruption, severity), error(corruption), mean error
    and for all of them
        /comparison             paired differences of accuracy between models
        /doubts                 signs of weak attacks or masked gradients; see `netprobe.evaluation.doubts`
        /preflight              what the pre-flight found
        /timing                 seconds(model, condition), as measured when the units were computed

    Equal calls give equal results, but for /timing, on the same machine and number of threads. An image's outcome does
    not depend on other images, the batch size or the chunks, up to the rounding of the model itself. Every verdict is
    the model's own on the final x'. The models are left as found.

    Errors come before the work: unknown names and settings, models and data that do not fit, a folder that cannot be
    written. Ctrl-C raises `Interrupted`. Cost: that of the attacks; doubts add attacks on `probe_images` images.

    >>> import netprobe as npb
    >>> net, digits = npb.load("digits_cnn"), npb.data.load("digits", limit=20)
    >>> curve = npb.sweep("pgd:steps=5", eps=[0.1, 0.2])
    >>> tree = npb.evaluate({"net": net}, digits, curve, doubts=False, progress=False)
    >>> tree["net/evaluation"].condition.values.tolist(), tree["net/evaluation/accuracy_interval"].shape
    (['clean', 'pgd@0.1', 'pgd@0.2'], (3, 2))
    """
    chosen = _settings(settings)
    data = data if isinstance(data, Data) else load_data(data)
    models, named = named_models(models), named_perturbations(perturbations, ())
    archive = Archive(folder)
    archive.prepare()
    conditions = conditions_of(named)
    rehearse(models, data, conditions)
    findings = _preflight(models, data, named, chosen)
    runner = Runner(models, data, archive, chosen)
    tables = {name: {each.name: Table(len(data)) for each in conditions} for name in models}
    try:
        _run(runner, conditions, tables)
        doubted = doubts(runner, conditions, tables) if chosen.doubts and _complete(tables) else None
    except KeyboardInterrupt:
        raise Interrupted(_tree(runner, conditions, tables, findings, None)) from None
    return _tree(runner, conditions, tables, findings, doubted)


def _settings(given: dict[str, Any]) -> EvaluateSettings:
    known = [f.name for f in dataclasses.fields(EvaluateSettings)]
    for name in given:
        if name not in known:
            raise unknown("setting of evaluate", name, known)
    return EvaluateSettings(**given)


def _run(runner: Runner, conditions: list[Condition], tables: Tables) -> None:
    """What is kept already, then every other unit of this shard, model by model and condition by condition."""
    left = []
    for name, each, chunk, ours in _units(runner, conditions, tables):
        kept = runner.kept(name, each, chunk)
        if kept is not None:
            tables[name][each.name].fill(chunk, kept)
        elif ours:
            left.append((name, each, chunk))
    done = sum(int(table.done.sum()) for own in tables.values() for table in own.values())
    total = done + sum(len(chunk) for _, _, chunk in left)
    with tqdm(total=total, initial=done, unit="image", disable=not runner.chosen.progress) as bar:
        for name, each, chunk in left:
            tables[name][each.name].fill(chunk, runner.outcome(name, each, chunk, bar))


def _units(runner: Runner, conditions: list[Condition], tables: Tables) -> Iterator[tuple]:
    """Model, condition, positions of the images, and whether this shard is to compute it."""
    part, parts = runner.chosen.parts
    for name in tables:
        chunks = runner.chunks(name, range(len(runner.data)))
        for each in conditions:
            for number, chunk in enumerate(chunks):
                yield name, each, chunk, number % parts == part


def _complete(tables: Tables) -> bool:
    return all(bool(table.done.all()) for own in tables.values() for table in own.values())


def _preflight(models: Mapping, data: Data, named: Mapping, chosen: EvaluateSettings) -> list[xr.Dataset]:
    if not chosen.preflight:
        return []
    from netprobe.preflight import check

    found = {name: check(model, data, named, strict=chosen.strict, seed=chosen.seed) for name, model in models.items()}
    return [findings.to_dataset(name) for name, findings in found.items()]


def _tree(
    runner: Runner, conditions: list[Condition], tables: Tables, findings: list[xr.Dataset], doubted: xr.Dataset | None
) -> xr.DataTree:
    label = runner.data.labels.numpy()
    groups: dict[str, xr.Dataset | None] = {"/": xr.Dataset()}
    for name, own in tables.items():
        groups[f"/{name}/evaluation"] = evaluation(own, conditions, label, runner.models[name])
        groups[f"/{name}/worst_case"] = worst_case(own, conditions, label)
        groups[f"/{name}/minimum_norm"] = minimum_norms(own, conditions, label)
        groups[f"/{name}/boundary_distance"] = boundary_distances(own, conditions, label, runner.data.shape)
        groups[f"/{name}/perturbation_spectrum"] = minimal_spectra(own, conditions)
        groups[f"/{name}/corruptions"] = corruption_table(own, conditions, label)
    groups |= relative_to_first(groups, list(tables))
    groups["/comparison"] = comparison(tables, conditions, label)
    groups["/doubts"] = doubted
    groups["/preflight"] = xr.concat(findings, "finding") if findings else None
    groups["/timing"] = _timing(tables)
    complete = _complete(tables) and (doubted is not None or not runner.chosen.doubts)
    about = _provenance(runner, conditions, complete)
    return stamped({path: group for path, group in groups.items() if group is not None}, about)


def _timing(tables: Tables) -> xr.Dataset:
    names = list(next(iter(tables.values())))
    seconds = [[own[name].seconds for name in names] for own in tables.values()]
    about = {"long_name": "time", "units": "s", "definition": "seconds spent on all images when they were computed"}
    coords = {"model": list(tables), "condition": names}
    return xr.Dataset({"seconds": (("model", "condition"), np.array(seconds), about)}, coords)


def _provenance(runner: Runner, conditions: list[Condition], complete: bool) -> dict[str, Any]:
    settings = dataclasses.asdict(runner.chosen)
    run = {name: settings.pop(name) for name in ("device", "shard", "progress", "strict", "preflight")}
    described = {c.name: perturb.describe(c.perturbation) for c in conditions if c.perturbation is not None}
    return {
        "versions": versions(),
        "data": runner.data.describe(),
        "perturbations": described,
        "settings": settings,
        "run": run,
        "models": {name: model_card(model) for name, model in runner.models.items()},
        "complete": complete,
    }

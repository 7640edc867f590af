"""The one pass: clean and perturbed images through the model together, statistics taken inside the hooks."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn

from netprobe import perturb
from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.devices import device_of
from netprobe.errors import NetprobeError, unknown
from netprobe.groups import NOT_A_MODEL
from netprobe.metrics import Metric, resolve
from netprobe.probing.kernels import KernelReduction, plan
from netprobe.probing.observables import Layout
from netprobe.probing.partial import ModelPart, Partial, fresh_observables
from netprobe.probing.passes import Pass
from netprobe.settings import ProbeSettings, in_bytes
from netprobe.sites import Site, find_sites, select
from netprobe.store import model_card, versions

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0


def probe(
    models: nn.Module | Mapping[str, nn.Module],
    data: Data | Any,
    perturbations: Any = "pgd:eps=8/255",
    metrics: str | Metric | Iterable[str | Metric] | None = None,
    sites: Any = None,
    *,
    partial: str | Path | None = None,
    **settings: Any,
) -> xr.DataTree:
    """How perturbations travel through one or more models: one pass over `data`, memory independent of its size.

    models          an nn.Module on inputs in [0, 1], or several by name
    data            a `Data`, or anything `netprobe.data.load` takes
    perturbations   a spec ("pgd:eps=8/255,steps=20"), an instance, a callable (model, x, y, *, generator) -> x', a
                    list of these, or a dict of them by name; None for clean images alone, where every metric can
                    do without
    metrics, sites  names or objects; patterns (see `netprobe.metrics`, `netprobe.sites.selection`)
    partial         file to flush to about twice a minute; if it holds the same probe, the run goes on from there
    settings        the other fields of `ProbeSettings`

    Returns a DataTree /model/metric of Datasets with dims condition ("clean" and the perturbations), perturbation,
    site, image and those of the metric; /model/accuracy with Wilson intervals; /preflight with what the pre-flight
    found. Every perturbation is made for the model it is applied to. The models are left as found. Same seed, same
    numbers, whatever the batch size up to the rounding of the model itself.

    Errors come before the pass: unknown names, patterns that match nothing, data that does not fit.

    >>> import netprobe as npb
    >>> net, digits = npb.load("digits_cnn"), npb.data.load("digits", limit=20)
    >>> tree = npb.probe({"net": net}, digits, {"noise": npb.GaussianNoise(0.1)}, "psr,hoyer", "conv", progress=False)
    >>> dict(tree["net/psr/psr"].sizes)
    {'perturbation': 1, 'norm': 3, 'site': 5, 'image': 20}
    >>> tree["net/accuracy"].condition.values.tolist()
    ['clean', 'noise']
    """
    return gather(models, data, perturbations, metrics, sites, partial=partial, **settings).compute()


def gather(
    models: nn.Module | Mapping[str, nn.Module],
    data: Data | Any,
    perturbations: Any = "pgd:eps=8/255",
    metrics: str | Metric | Iterable[str | Metric] | None = None,
    sites: Any = None,
    *,
    partial: str | Path | None = None,
    **settings: Any,
) -> Partial:
    """As `probe`, but what was accumulated, for `merge` with other shards; `Partial.compute` gives the results.

    Interrupted by Ctrl-C, it flushes and raises `Interrupted`, whose `partial` holds what was done.
    """
    chosen = _settings(settings | {k: v for k, v in {"metrics": metrics, "sites": sites}.items() if v is not None})
    data = data if isinstance(data, Data) else load_data(data)
    metrics = resolve(chosen.metrics)
    named = named_perturbations(perturbations, metrics)
    gathered = _start(named_models(models), data, named, metrics, chosen)
    gathered = _resumed(gathered, partial)
    for name, model in named_models(models).items():
        with _flushing(gathered, partial) as flush:
            Pass(name, model, data, named, gathered, chosen).run(flush)
    return gathered


def merge(parts: Iterable[Partial | str | Path]) -> Partial:
    """Join parts of one probe on different images, exactly: the result is that of one pass over all of them.

    Parts are `Partial`s or files they were saved to. 'unit' spectra and CKA link every image with every other and
    cannot be merged.
    """
    loaded = [part if isinstance(part, Partial) else Partial.load(part) for part in parts]
    if not loaded:
        raise NetprobeError("nothing to merge: give at least one part")
    total = copy.deepcopy(loaded[0])
    for part in loaded[1:]:
        total.merge(copy.deepcopy(part))
    return total


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a probe; `partial` holds what was done."""

    def __init__(self, partial: Partial) -> None:
        super().__init__("the probe was interrupted; .partial.compute() gives the results so far")
        self.partial = partial


def _settings(given: dict[str, Any]) -> ProbeSettings:
    known = [f.name for f in dataclasses.fields(ProbeSettings)]
    for name in given:
        if name not in known:
            raise unknown("setting of probe", name, known)
    return ProbeSettings(**given)


def named_models(models: nn.Module | Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    named = {type(models).__name__: models} if isinstance(models, nn.Module) else dict(models)
    for name, model in named.items():
        if not isinstance(model, nn.Module):
            raise NetprobeError(
                f"model {name!r} is a {type(model).__name__}, not an nn.Module; netprobe.load makes one"
            )
        if not name or "/" in name or name in (*NOT_A_MODEL, ".", ".."):
            taken = ", ".join(map(repr, NOT_A_MODEL))
            raise NetprobeError(f"{name!r} cannot name a model: names must not be empty, '.', {taken} or contain '/'")
    if not named:
        raise NetprobeError("no models given")
    return named


def named_perturbations(given: Any, metrics: Sequence[Metric]) -> dict[str, Callable]:
    """Perturbations by name: as given, else by their own names, numbered where they repeat."""
    if given is None and not any(metric.needs_perturbation for metric in metrics):
        return {}
    if isinstance(given, Mapping):
        named = {name: perturb.resolve(p) for name, p in given.items()}
    else:
        several = [given] if isinstance(given, str) or callable(given) else list(given or ())
        named = {}
        for p in map(perturb.resolve, several):
            name = getattr(p, "name", None) or perturb.family(p)
            count = sum(n == name or n.startswith(f"{name}-") for n in named)
            named[f"{name}-{count + 1}" if count else name] = p
    if "clean" in named:
        raise NetprobeError("'clean' names the unperturbed images; give that perturbation another name")
    if not named:
        comparing = ", ".join(metric.name for metric in metrics if metric.needs_perturbation)
        needed = f" (needed by {comparing})" if comparing else ""
        raise NetprobeError(f"no perturbations given{needed}: name one, such as {{'noise': 'gaussian:std=0.1'}}")
    return named


def _start(
    models: Mapping[str, nn.Module],
    data: Data,
    named: Mapping[str, Callable],
    metrics: tuple[Metric, ...],
    chosen: ProbeSettings,
) -> Partial:
    """Sites chosen, settings checked, pre-flight done: everything that can go wrong goes wrong here."""
    settings = dataclasses.asdict(chosen)
    run = {
        k: settings.pop(k)
        for k in ("batch_size", "compile", "device", "memory", "shard", "progress", "strict", "preflight")
    }
    settings |= {"sites": repr(chosen.sites), "metrics": [repr(m) for m in metrics]}
    described = {name: perturb.describe(p) for name, p in named.items()}
    partial = Partial(
        conditions=["clean", *named],
        families=["clean", *map(perturb.family, named.values())],
        strengths=[0.0, *map(perturb.eps_of, named.values())],
        metrics=metrics,
        provenance={
            "versions": versions(),
            "data": data.describe(),
            "perturbations": json.loads(json.dumps(described, default=repr)),
            "settings": json.loads(json.dumps(settings, default=repr)),
            "run": json.loads(json.dumps(run, default=repr)),
        },
    )
    for name, model in models.items():
        partial.models[name] = _listen(model, data, named, metrics, chosen)
        _check_kernels(partial.models[name], partial.conditions, len(data), chosen)
        if chosen.preflight:
            partial.findings += _preflight(name, model, data, named, chosen)
    return partial


def _listen(
    model: nn.Module, data: Data, named: Mapping[str, Callable], metrics: Sequence[Metric], chosen: ProbeSettings
) -> ModelPart:
    example = next(iter(data.select([0]).batches(1, device_of(model)))).x
    found = find_sites(model, example.to(next(model.parameters(), example).dtype))
    selected = {m.name: _sites_of(m, found, chosen.sites) for m in metrics}
    listened = {name: [site.name for site in sites] for name, sites in selected.items()}
    layout = _layout(metrics, selected, len(data), len(named) + 1, chosen)
    observables = fresh_observables(metrics, listened, layout)
    reduced = [s for s, keyed in observables.items() if any(isinstance(o, KernelReduction) for o in keyed.values())]
    return ModelPart(
        sites={site.name: site for site in found if site.name in observables},
        listened=listened,
        observables=observables,
        card=model_card(model),
        layout=layout,
        pending=list(chosen.share(len(data))),
        kernels_pending=reduced,
        widest=max(site.units for site in found),
    )


def _layout(
    metrics: Sequence[Metric], selected: Mapping[str, list[Site]], images: int, conditions: int, chosen: ProbeSettings
) -> Layout:
    """Jackknife blocks, unless their moments would not fit the memory budget: then intervals that need them are NaN."""
    blocked = Layout.blocked(images, chosen.dtype)
    need = sum(o.bytes(s, conditions) for m in metrics for s in selected[m.name] for o in m.observables(blocked))
    if need <= in_bytes(chosen.memory):
        return blocked
    logger.warning("no jackknife intervals: their moments need %.1f GiB, memory=%s", need / 2**30, chosen.memory)
    return Layout(images, dtype=chosen.dtype)


def _check_kernels(part: ModelPart, conditions: Sequence[str], images: int, chosen: ProbeSettings) -> None:
    """Raise now what would stop the passes for kernels later."""
    if part.kernels_pending and len(part.pending) < images:
        raise NetprobeError("'unit' spectra and CKA need all images in one part: leave them out of shards")
    sites = [part.sites[name] for name in part.kernels_pending]
    plan(sites, images, len(conditions), in_bytes(chosen.memory), getattr(torch, chosen.dtype))
    for name in part.kernels_pending:
        for observable in part.observables[name].values():
            if isinstance(observable, KernelReduction):
                observable.pairs(conditions)


def _sites_of(metric: Metric, found: list[Site], patterns: Any) -> list[Site]:
    chosen = select(found, patterns if metric.sites is None else metric.sites)
    if metric.at == "output":
        return chosen
    calls = {(site.module, site.call) for site in chosen}
    return [s for s in found if s.where == "input" and (s.module, s.call) in calls and s.batch_axis is not None]


def _preflight(
    name: str, model: nn.Module, data: Data, named: Mapping[str, Callable], chosen: ProbeSettings
) -> list[dict]:
    from netprobe.preflight import check

    findings = check(model, data, named, strict=chosen.strict, seed=chosen.seed)
    return [
        {"model": name} | {k: str(getattr(f, k)) for k in ("severity", "check", "evidence", "remedy")} for f in findings
    ]


def _resumed(fresh: Partial, path: str | Path | None) -> Partial:
    """What `path` holds of this very probe, else `fresh`; another probe in that file is an error, not overwritten."""
    if path is None or not Path(path).exists():
        return fresh
    stored = Partial.load(path, fresh.metrics)
    same_models = {n: p.card["sha256"] for n, p in stored.models.items()} == {
        n: p.card["sha256"] for n, p in fresh.models.items()
    }
    same_shard = stored.provenance["run"]["shard"] == fresh.provenance["run"]["shard"]
    if stored.fingerprint != fresh.fingerprint or not same_models or not same_shard:
        raise NetprobeError(
            f"{str(path)!r} holds a probe with other settings, models, data or shard; "
            "move it away, or name another file"
        )
    return stored


@contextlib.contextmanager
def _flushing(gathered: Partial, path: str | Path | None) -> Iterator[Callable[[], None]]:
    """A function to call often, which saves `gathered` now and then; it is saved at the end and on Ctrl-C too.

    Not after an error: that may have come in the middle of a batch, which would count twice when the probe is resumed.
    """
    last = time.monotonic()

    def flush() -> None:
        nonlocal last
        if path is not None and time.monotonic() - last > FLUSH_SECONDS:
            gathered.save(path)
            last = time.monotonic()

    try:
        yield flush
    except KeyboardInterrupt:
        if path is not None:
            gathered.save(path)
        raise Interrupted(gathered) from None
    if path is not None:
        gathered.save(path)

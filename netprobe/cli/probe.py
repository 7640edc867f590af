"""`netprobe probe`: measure, keep, and write, also when interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from netprobe.cli.models import FORM, models_and_data
from netprobe.cli.options import (
    data_flags,
    errors_as_usage,
    interrupted,
    model_flags,
    perturb_flag,
    probe_flags,
    sweep_flags,
)
from netprobe.cli.sharing import shared
from netprobe.cli.showing import show
from netprobe.cli.sweeps import all_perturbations

PARTIAL = "partial.pt"


@dataclass(frozen=True)
class Extras:
    """What `compare` shows beside what it probes: Grad-CAM `maps` of so many images `at` a site (None: the last that
    has one), the `weights`, and accuracies under the perturbations `evaluated`, with their `spectra`.
    """

    maps: int = 0
    at: str | None = None
    weights: bool = False
    evaluated: Mapping[str, Any] = field(default_factory=dict)
    spectra: bool = False


def probed(
    networks: Mapping[str, Any],
    images: Any,
    named: Mapping[str, Any],
    out: str,
    options: dict[str, Any],
    extras: Extras | None = None,
) -> Any:
    """Results of a run that flushes to `out`, goes on from there, and is readable when interrupted.

    Under torchrun every process probes its share of the images; the first one joins them, and the others end here.
    """
    from netprobe.probing.probe import Interrupted
    from netprobe.store import made_folder, save_results

    extras = extras or Extras()
    if extras.weights:
        options["metrics"] = _with_drift(options["metrics"], networks, images.shape)
    made_folder(out)
    try:
        partial = _gathered(networks, images, named, Path(out), options)
    except Interrupted as stopped:
        save_results(stopped.partial.compute(), Path(out) / "results.nc")
        interrupted(f"{out}/results.nc")
    tree = partial.compute()
    if extras.weights:
        from netprobe.weights import join

        tree = join(tree, networks, images.shape, **{key: options[key] for key in ("memory", "seed", "progress")})
    if extras.maps:
        _add_maps(tree, networks, images, named, extras, options["seed"])
    if extras.evaluated:
        tree = _with_accuracies(tree, networks, images, extras, out, options)
    save_results(tree, Path(out) / "results.nc")
    if partial.complete and options["shard"] == "0/1":  # a shard's part is still to be merged
        (Path(out) / PARTIAL).unlink(missing_ok=True)
    return tree


def _gathered(networks: Mapping[str, Any], images: Any, named: Any, out: Path, options: dict[str, Any]) -> Any:
    """What this process accumulated, or all of them together."""
    from netprobe.probing.probe import gather, merge

    with shared(options) as together:
        if together.local:
            return gather(networks, images, named, partial=out / PARTIAL, **options)
        files = [out / f"partial-{rank}.pt" for rank in range(together.size)]
        gather(networks, images, named, partial=files[together.rank], **options)
        together.wait()
    options["shard"] = "0/1"
    whole = merge(files)
    for file in files:
        file.unlink()
    return whole


def _with_drift(metrics: str, networks: Mapping[str, Any], shape: tuple[int, ...]) -> list[Any]:
    """The metrics, and what the drift of batch norm is made of, which costs next to nothing in the same pass."""
    from netprobe.metrics import resolve
    from netprobe.weights import drift_metric

    chosen = list(resolve(metrics))
    extra = drift_metric(networks, shape)
    return chosen if extra is None or extra.name in [metric.name for metric in chosen] else [*chosen, extra]


def _with_accuracies(
    tree: Any, networks: Mapping[str, Any], images: Any, extras: Extras, out: str, options: dict[str, Any]
) -> Any:
    """What was done is kept in `out`; interrupted, it is written and the process ends."""
    from netprobe.evaluation import Interrupted, join
    from netprobe.store import save_results

    how = {key: options[key] for key in ("batch_size", "seed", "device", "progress")}
    try:
        return join(tree, networks, images, extras.evaluated, folder=out, spectra=extras.spectra, **how)
    except Interrupted as stopped:
        save_results(stopped.results, Path(out) / "results.nc")
        interrupted(f"{out}/results.nc")


def _add_maps(
    tree: Any, networks: Mapping[str, Any], images: Any, named: Mapping[str, Any], extras: Extras, seed: int
) -> None:
    import xarray as xr

    from netprobe.attribution import gradcam
    from netprobe.errors import NetprobeError

    for name, network in networks.items():
        try:
            maps = gradcam.grad_cam(network, images, perturbations=named, layer=extras.at, limit=extras.maps, seed=seed)
        except NetprobeError as error:
            click.echo(f"no Grad-CAM for {name}: {error}", err=True)
        else:
            tree[f"{name}/gradcam"] = xr.DataTree(maps)


@click.command(
    help=f"Probe one model or several, and write what was measured.\n\n{FORM}\n\n"
    "\b\nnetprobe probe resnet18@at.pt --data cifar10 --limit 1000 --perturb pgd:eps=8/255,steps=20\n"
    "netprobe probe net=net.py:make@a.pt --data cifar10 --metrics psr,correlation \\\n"
    '    --sweep "pgd:steps=20 eps=1/255,2/255,4/255,8/255"'
)
@click.argument("models", nargs=-1, required=True)
@model_flags
@data_flags
@perturb_flag
@sweep_flags
@probe_flags
@click.option("-o", "--out", default="runs/probe", show_default=True, help="folder for results.nc")
@errors_as_usage
def probe(models: tuple[str, ...], out: str, sweep: tuple[str, ...], corruptions: str | None, **options: Any) -> None:
    networks, images = models_and_data(models, options)
    named = all_perturbations(options.pop("perturbations"), sweep, corruptions, images.shape)
    show(probed(networks, images, named, out, options), Path(out) / "results.nc")

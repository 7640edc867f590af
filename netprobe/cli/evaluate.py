"""`netprobe evaluate`: attack, keep, and write, also when interrupted."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from netprobe.cli.models import FORM, LOADING, loaded, models_and_data
from netprobe.cli.options import (
    data_flags,
    errors_as_usage,
    evaluate_flags,
    evaluation_preset_flags,
    interrupted,
    model_flags,
    perturb_flag,
    sweep_flags,
)
from netprobe.cli.sharing import shared
from netprobe.cli.showing import show
from netprobe.cli.sweeps import all_perturbations

EXAMPLES = """\b
netprobe evaluate natural=resnet18@nt.pt robust=resnet18@at.pt --data cifar10 --limit 500 \\
    --perturb pgd:eps=8/255,steps=20 --sweep "pgd:steps=20 eps=0,2/255,4/255,8/255" -o out/
netprobe evaluate resnet20@r20.th --normalize imagenet --data cifar10 --perturb apgd:eps=8/255 \\
    --sweep "gaussian std=0,0.05,0.1,0.2" --corruptions 1-5
netprobe evaluate runs/sparse/best.pt --data cifar10 --limit 1000 --perturb pgd:eps=8/255,eot=20 \\
    --transfer twin=runs/twin/best.pt --transfer robust=resnet18@at.pt
netprobe evaluate plain=runs/plain-0/best.pt similar=runs/similar-0/best.pt --data cifar10 --limit 1000 \\
    --preset black-box --surrogate runs/plain-1/best.pt
netprobe evaluate net.py:make@a.pt --data cifar10 --sweep "weak=pgd:steps=5 eps=2/255,4/255" --no-doubts"""
TIMING = "timing.csv"


def transferred(named: Mapping[str, Any], sources: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """The gradient attacks among `named`, made against the models `sources`."""
    from netprobe.perturb import resolve
    from netprobe.perturb.transfer import transfers

    return transfers({name: resolve(each) for name, each in named.items()}, _placed(sources, device))


def of_preset(
    spec: str | None, networks: Mapping[str, Any], images: Any, surrogates: Mapping[str, Any], device: str | None
) -> dict[str, Any]:
    """The perturbations of the preset that `spec` names; none without."""
    from netprobe.errors import NetprobeError
    from netprobe.evaluation import preset

    if spec is None and surrogates:
        raise NetprobeError("--surrogate is for --preset, such as --preset black-box; elsewhere give --transfer MODEL")
    return {} if spec is None else preset(spec, networks, images, _placed(surrogates, device))


def _placed(models: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    return {name: model if device is None else model.to(device) for name, model in models.items()}


def evaluated(
    networks: Mapping[str, Any], images: Any, named: Mapping[str, Any], out: str, landscape: int, settings: dict
) -> Any:
    """The results, written to `out` as results.nc; interrupted, what was done is written and the process ends.

    `landscape` is around how many images to look at the loss.
    """
    import xarray as xr

    from netprobe.evaluation import Interrupted, evaluate, loss_landscape

    try:
        with shared(settings) as together:
            if not together.local:
                evaluate(networks, images, named, folder=out, **settings)
        settings["shard"] = settings["shard"] if together.local else "0/1"  # what the others did is in the folder
        tree = evaluate(networks, images, named, folder=out, **settings)
    except Interrupted as stopped:
        saved(stopped.results, out)
        interrupted(f"{out}/results.nc")
    for name, network in networks.items() if landscape else ():
        around = loss_landscape(network, images, images=landscape, seed=settings["seed"])
        tree[f"{name}/landscape"] = xr.DataTree(around)
    return saved(tree, out)


def saved(tree: Any, out: str) -> Any:
    """Write results.nc, which is the same for every run of a command, and beside it what is not: how long it took.

    Returns what results.nc holds, as it comes back from there: a report drawn from it can be drawn again.
    """
    from netprobe import groups
    from netprobe.reporting.outcome import RESULTS
    from netprobe.store import atomically, open_results, save_results

    seconds = tree[groups.TIMING]["seconds"]
    atomically(Path(out) / TIMING, lambda part: part.write_text(_table(seconds)))
    kept = tree.copy()
    del kept[groups.TIMING]
    return open_results(save_results(kept, Path(out) / RESULTS))


def _table(seconds: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "condition", "seconds"))
    for model, row in zip(seconds["model"].values, seconds.values, strict=True):
        writer.writerows((model, name, f"{s:.3f}") for name, s in zip(seconds["condition"].values, row, strict=True))
    return text.getvalue()


@click.command(
    help="Attack, say what became of every image and whether to believe it; write results, figures and a report.\n\n"
    "Finished work is kept in the output folder: after Ctrl-C or a kill the same command goes on from there, and a "
    "command with one more perturbation computes that one alone.\n\n"
    f"{FORM}\n\n{EXAMPLES}"
)
@click.argument("models", nargs=-1, required=True)
@model_flags
@data_flags
@perturb_flag
@sweep_flags
@evaluate_flags
@evaluation_preset_flags
@click.option(
    "--transfer",
    multiple=True,
    metavar="MODEL",
    help="show images made against this MODEL, by every gradient attack and backward pass, to the models; repeatable",
)
@click.option("--landscape", default=0, show_default=True, help="images to look at the loss around; 0 for none")
@click.option("-o", "--out", default="runs/evaluate", show_default=True, help="folder for results, figures and report")
@errors_as_usage
def evaluate(
    models: tuple[str, ...],
    out: str,
    perturbations: tuple[str, ...],
    sweep: tuple[str, ...],
    corruptions: str | None,
    transfer: tuple[str, ...],
    preset: str | None,
    surrogate: tuple[str, ...],
    landscape: int,
    **options: Any,
) -> None:
    from netprobe.reporting.outcome import draw

    sources, surrogates = (loaded(each, {name: options[name] for name in LOADING}) for each in (transfer, surrogate))
    networks, images = models_and_data(models, options)
    whole = of_preset(preset, networks, images, surrogates, options["device"])
    named = all_perturbations(perturbations, sweep, corruptions, images.shape, whole)
    named |= transferred(named, sources, options["device"])
    tree = evaluated(networks, images, named, out, landscape, options)
    show(tree, draw(tree, out))

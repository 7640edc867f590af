"""`netprobe compare`: several models, probed and drawn side by side."""

from __future__ import annotations

from typing import Any

import click

from netprobe.cli.models import FORM, models_and_data
from netprobe.cli.options import (
    data_flags,
    errors_as_usage,
    model_flags,
    named_perturbations,
    perturb_flag,
    probe_flags,
    sweep_flags,
)
from netprobe.cli.probe import Extras, probed
from netprobe.cli.showing import show
from netprobe.cli.sweeps import all_perturbations


@click.command(
    help="Probe two or more models under the same perturbations, and write results, figures and a report.\n\n"
    f"{FORM}\n\n"
    "\b\nnetprobe compare natural=resnet18@nt.pt robust=resnet18@at.pt --data cifar10 \\\n"
    "    --perturb pgd:eps=8/255,steps=20 --perturb noise=gaussian:std=0.1 -o out/\n"
    "netprobe compare standard=runs/standard/best.pt hah=runs/hah/best.pt --data cifar10 --limit 1000 \\\n"
    "    --perturb noise=gaussian:std=0.1 --sites block,block:in --gradcam-at features.0 \\\n"
    "    --sweep 'gaussian std=0,0.05,0.1,0.15,0.2' --evaluate fmn:norm=l2 --corruptions 5 --spectra"
)
@click.argument("models", nargs=-1, required=True)
@model_flags
@data_flags
@perturb_flag
@click.option(
    "--evaluate",
    "alone",
    multiple=True,
    metavar="[NAME=]SPEC",
    help="a perturbation under which accuracies alone are told, as under --sweep and --corruptions; repeatable",
)
@sweep_flags
@click.option("--spectra", is_flag=True, help="also tell the spatial frequencies of what these change of the images")
@probe_flags
@click.option("--gradcam", default=4, show_default=True, help="images to draw Grad-CAM maps of; 0 for none")
@click.option("--gradcam-at", metavar="SITE", help="where the maps are taken; by default at the last site that has one")
@click.option("--weights/--no-weights", default=True, show_default=True, help="add what `netprobe weights` shows")
@click.option("-o", "--out", default="runs/compare", show_default=True, help="folder for results, figures and report")
@errors_as_usage
def compare(
    models: tuple[str, ...],
    out: str,
    alone: tuple[str, ...],
    sweep: tuple[str, ...],
    corruptions: str | None,
    spectra: bool,
    gradcam: int,
    gradcam_at: str | None,
    weights: bool,
    **options: Any,
) -> None:
    from netprobe.errors import NetprobeError
    from netprobe.reporting.outcome import draw

    if len(models) < 2:
        raise NetprobeError("compare needs two models or more; `netprobe probe` takes one")
    more = alone or sweep or corruptions
    if spectra and not more:
        raise NetprobeError(
            "--spectra is of the perturbations that --evaluate, --sweep or --corruptions name: give some"
        )
    networks, images = models_and_data(models, options)
    named = named_perturbations(options.pop("perturbations"))
    told = all_perturbations(alone, sweep, corruptions, images.shape) if more else {}
    tree = probed(networks, images, named, out, options, Extras(gradcam, gradcam_at, weights, told, spectra))
    show(tree, draw(tree, out))

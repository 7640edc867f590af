"""`netprobe weights`: what weights alone tell."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from netprobe.cli.models import FORM, LOADING, loaded
from netprobe.cli.options import (
    errors_as_usage,
    input_shape,
    inputs,
    model_flags,
    named_perturbations,
    optional_data_flags,
    perturb_flag,
    weights_flags,
)
from netprobe.cli.showing import columns, show

HEADS = ("layer", "method", "input", "norm", "upper bound", "effective rank", "median/largest", "filter Hoyer", "dead")


def table(results: Any) -> list[tuple[str, ...]]:
    """The layers of one model, a row each under HEADS; what a layer lacks is a dash, and its note the last column."""
    spectrum, filters = results["singular_values"].to_dataset(), results["filters"].to_dataset()
    rows = [(*HEADS, "")]
    for name in spectrum["layer"].values:
        values, own = spectrum.sel(layer=name), filters.sel(layer=name)
        method = " ".join(filter(None, (_text(values, "method"), _text(values, "padding"))))
        numbers = (
            _number(values["operator_norm"], ".4g"),
            _number(values["operator_norm_upper"], ".4g"),
            _number(values["effective_rank"], ".1f"),
            _number(values["median_normalized"], ".3f"),
            _number(own["hoyer"], ".3f"),
            _number(own["dead"], ".0f"),
        )
        rows.append((str(name), method or "–", _text(values, "input_size") or "–", *numbers, _text(values, "note")))
    return rows


def _text(data: Any, name: str) -> str:
    return str(data[name].values) if name in data else ""


def _number(value: Any, form: str) -> str:
    return "–" if math.isnan(float(value)) else format(float(value), form)


@click.command(
    help="Read what the weights of one model or several tell: singular values, sparsity of filters, batch norm.\n\n"
    "Needs no images. With --data it also compares the statistics of batch norm with those of the images, clean and "
    "under each --perturb.\n\n"
    f"{FORM}\n\n"
    "\b\n"
    "netprobe weights nt=resnet18@nt.pt at=resnet18@at.pt --input 3,32,32 -o out/\n"
    "netprobe weights torchvision:resnet50 --input 3,224,224 --layers 'layer4.*' -k 5\n"
    "netprobe weights net.py:make@a.pt --data cifar10 --limit 1000 --perturb pgd:eps=8/255"
)
@click.argument("models", nargs=-1, required=True)
@model_flags
@click.option("--input", "shape", help="shape of one input, for example 3,32,32; by default that of --data")
@optional_data_flags
@perturb_flag
@weights_flags
@click.option("-o", "--out", default="runs/weights", show_default=True, help="folder for results, figures and report")
@errors_as_usage
def weights(
    models: tuple[str, ...], shape: str | None, out: str, perturbations: tuple[str, ...], **options: Any
) -> None:
    from netprobe.errors import NetprobeError
    from netprobe.reporting.outcome import REPORT, write
    from netprobe.weights import analyse

    if shape is None and options["data"] is None:
        raise NetprobeError("give --input, for example --input 3,32,32, or --data: singular values depend on the size")
    size = None if shape is None else input_shape(shape)
    networks = loaded(models, {key: options.pop(key) for key in LOADING})
    images = inputs(options, options["seed"])
    named = named_perturbations(perturbations) if perturbations else None
    tree = analyse(networks, size, data=images, perturbations=named, **options)
    write(tree, out)
    for name in networks:
        click.echo(f"\n{name}\n{columns(table(tree[name]), right=range(2, 9))}")
    show(tree, Path(out) / REPORT)

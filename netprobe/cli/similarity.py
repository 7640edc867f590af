"""`netprobe similarity`: one pass for all matrices, then what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from netprobe.cli.models import FORM, models_and_data
from netprobe.cli.options import (
    data_flags,
    errors_as_usage,
    model_flags,
    named_perturbations,
    perturb_flag,
    similarity_flags,
)
from netprobe.cli.showing import columns, show

EXAMPLES = """\b
netprobe similarity natural=resnet18@nt.pt robust=resnet18@at.pt --data cifar10 --limit 500 --sites block -o out/
netprobe similarity runs/a/best.pt --data cifar10 --limit 500 --perturb pgd:eps=8/255,steps=20 \\
    --reference v1=neural.npy"""
LIMIT = 500
"""Images, unless told how many: matrices grow with their square."""


def similar(
    networks: Mapping[str, Any],
    images: Any,
    named: Mapping[str, Any] | None,
    references: tuple[str, ...],
    measure: str,
    centre: str,
    estimator: str,
    resamples: int,
    permutations: int,
    sites: Any,
    settings: dict[str, Any],
) -> Any:
    """Groups similarity, rsa and cka_matrix of every model."""
    import xarray as xr

    from netprobe.metrics import Similarity
    from netprobe.probing.probe import gather
    from netprobe.representations.alignment import alignments, check_cka
    from netprobe.representations.given import read_matrix
    from netprobe.representations.matrices import with_pixels
    from netprobe.representations.room import require_room
    from netprobe.representations.rsa import rsa

    check_cka(estimator, None, len(images))
    matrices = {name: read_matrix(path, f"--reference {str(path)!r}") for name, path in map(_named, references)}
    require_room(networks, images, named, sites, settings, copies=3)
    partial = gather(networks, images, named, Similarity(measure=measure, centre=centre), sites, **settings)
    tree = with_pixels(partial, images)
    compared = rsa(
        tree,
        matrices,
        resamples=resamples,
        permutations=permutations,
        seed=settings["seed"],
        progress=settings["progress"],
    )
    aligned = alignments(partial, tree, Similarity.name, estimator)
    for model in networks:
        tree[f"{model}/rsa"] = xr.DataTree(compared[model]["rsa"].to_dataset())
        tree[f"{model}/cka_matrix"] = xr.DataTree(aligned[model])
    return tree


def _named(text: str) -> tuple[str, Path]:
    name, given, path = text.partition("=")
    return (name, Path(path)) if given else (Path(text).stem, Path(text))


def table(tree: Any) -> list[tuple[str, ...]]:
    """Of every site, clean: its correlations with the first reference."""
    rows = [("model", "site", "pearson", "spearman", "against")]
    for model in tree.children:
        if "rsa" not in tree[model].children:
            continue
        data = tree[model]["rsa"].to_dataset().sel(condition="clean").isel(other=0)
        for site in data["site"].values:
            one = data.sel(site=site)
            numbers = (f"{float(one[name]):.3f}" for name in ("pearson", "spearman"))
            rows.append((model, str(site), *numbers, str(one["other"].values)))
    return rows


@click.command(
    help="Which images, and which layers, are alike: similarity matrices, RSA and CKA of one model or several.\n\n"
    "Every site of every model, clean and under each --perturb, is compared with every other, with the pixels and with "
    "each --reference. Without --limit 500 images are taken: a matrix grows with their square.\n\n"
    f"{FORM}\n\n{EXAMPLES}"
)
@click.argument("models", nargs=-1, required=True)
@model_flags
@data_flags
@perturb_flag
@similarity_flags
@click.option(
    "--reference", multiple=True, metavar="[NAME=]FILE.npy", help="a matrix (image, image) of the same images"
)
@click.option("--measure", default="cosine", show_default=True, help="cosine, correlation or euclidean")
@click.option("--centre", default="channel", show_default=True, help="the mean that is subtracted: channel, unit, none")
@click.option("--cka", "estimator", default="unbiased", show_default=True, help="estimator of CKA: unbiased or biased")
@click.option("--resamples", default=200, show_default=True, help="of the images, for intervals of RSA")
@click.option("--permutations", default=1000, show_default=True, help="of the images, for p-values of references")
@click.option("-o", "--out", default="runs/similarity", show_default=True, help="folder for results, figures, report")
@errors_as_usage
def similarity(models: tuple[str, ...], out: str, perturbations: tuple[str, ...], **options: Any) -> None:
    from netprobe.reporting.outcome import REPORT, write

    limited = options["limit"]
    networks, images = models_and_data(models, options)
    images = images if limited or len(images) <= LIMIT else images.take(LIMIT, options["seed"])
    named = named_perturbations(perturbations) if perturbations else None
    asked = {key: options.pop(key) for key in ("measure", "centre", "estimator", "resamples", "permutations", "sites")}
    tree = similar(networks, images, named, options.pop("reference"), settings=options, **asked)
    write(tree, out)
    click.echo(columns(table(tree), right=(2, 3)))
    show(tree, Path(out) / REPORT)

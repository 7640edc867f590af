"""The verbs."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import click

from netprobe.cli.evaluate import EXAMPLES
from netprobe.cli.figures import figures
from netprobe.cli.geometry import EXAMPLES as GEOMETRY_EXAMPLES
from netprobe.cli.models import FORM, load_all, normalization
from netprobe.cli.options import (
    data_flags,
    errors_as_usage,
    evaluate_flags,
    evaluation_preset_flags,
    geometry_flags,
    inputs,
    model_flags,
    named_perturbations,
    optional_data_flags,
    perturb_flag,
    preset_flag,
    probe_flags,
    recipe_flags,
    similarity_flags,
    sweep_flags,
    training_data_flags,
    weights_flags,
)
from netprobe.cli.partial import partial
from netprobe.cli.similarity import EXAMPLES as SIMILARITY_EXAMPLES
from netprobe.cli.train import EXAMPLES as TRAIN_EXAMPLES

LOADING = ("arch", "normalize", "num_classes", "key", "unsafe")
CHECKED = 256
"""Images that `check` looks at, unless told how many."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="netprobe-torch")
def main() -> None:
    """What a perturbation does inside a trained network.

    \b
    netprobe demo                                     see it work, in about two minutes
    netprobe layers torchvision:resnet18              where one can listen
    netprobe check resnet20@r20.th --normalize imagenet --data cifar10
    netprobe compare A.pt B.pt --arch resnet18 --data cifar10 --limit 1000 -o out/
    netprobe evaluate A.pt B.pt --arch resnet18 --data cifar10 --limit 500 --perturb pgd:eps=8/255,steps=20 -o out/
    netprobe weights A.pt B.pt --arch resnet18 --input 3,32,32 -o out/
    netprobe similarity A.pt B.pt --arch resnet18 --data cifar10 --sites block -o out/
    netprobe geometry A.pt B.pt --data mnist --limit 500 -o out/
    netprobe train pgd-at:eps=8/255 --data cifar10 --model resnet18 --normalize cifar10 -o runs/robust
    netprobe partial --model resnet18 --data cifar10 --codes A1N2,N1A2 --cutoffs blocks -o runs/partial
    netprobe figures --scale smoke                    every published figure, in minutes

    Exit codes: 0 done, 1 findings (check), 2 a mistake in what was asked, 130 interrupted.
    """


@main.command()
@click.option("-o", "--out", default="runs/demo", show_default=True, help="folder for results, figures and report")
@click.option("--seed", default=0, show_default=True, help="seed of initial weights, batches and noise")
@errors_as_usage
def demo(out: str, seed: int) -> None:
    """Train two small networks on scikit-learn's digits, naturally and adversarially, and compare them."""
    from netprobe.demo import demo as run
    from netprobe.reporting.verdict import verdict

    tree = run(out, seed)
    click.echo(f"\n{verdict(tree)}\n\nreport: {Path(out) / 'report.html'}")


@main.command(help=f"List where one can listen: index, name, type, shape, parameters, multiply-adds.\n\n{FORM}")
@click.argument("model")
@model_flags
@click.option("--input", "shape", default="3,224,224", show_default=True, help="shape of one input")
@click.option("--sites", default="all", show_default=True, help="only these, by pattern")
@errors_as_usage
def layers(model: str, shape: str, sites: str, **loading: Any) -> None:
    import torch

    from netprobe.selection import select
    from netprobe.sites import find_sites

    size = _input_shape(shape)
    (network,) = _loaded([model], loading).values()
    found = find_sites(network, torch.full((1, *size), 0.5))
    rows = [("", "site", "type", "shape", "parameters", "multiply-adds")]
    for site in select(found, sites):
        shown = "x".join(map(str, site.shape)) or "1"
        rows.append((str(site.order), site.name, site.kind, shown, f"{site.parameters:,}", f"{site.macs:,}"))
    click.echo(_columns(rows, right=(0, 4, 5)))


@main.command(help=f"Look for silent mistakes before they cost a day.\n\n{FORM}")
@click.argument("model")
@model_flags
@data_flags
@perturb_flag
@click.option("--seed", default=0, show_default=True)
@errors_as_usage
def check(model: str, perturbations: tuple, seed: int, **options: Any) -> None:
    from netprobe import perturb
    from netprobe.preflight import check as look

    (network,) = _loaded([model], {key: options.pop(key) for key in LOADING}).values()
    limited, images = options["limit"], inputs(options, seed)
    images = images if limited else images.take(min(CHECKED, len(images)), seed)
    named = named_perturbations(perturbations) if perturbations else {}
    findings = look(network, images, {name: perturb.resolve(p) for name, p in named.items()}, seed=seed)
    click.echo(findings)
    sys.exit(int(any(finding.severity == "error" for finding in findings)))


@main.command(help=f"Probe one model or several, and write what was measured.\n\n{FORM}")
@click.argument("models", nargs=-1, required=True)
@model_flags
@data_flags
@perturb_flag
@probe_flags
@click.option("-o", "--out", default="runs/probe", show_default=True, help="folder for results.nc")
@errors_as_usage
def probe(models: tuple[str, ...], out: str, **options: Any) -> None:
    from netprobe.cli.probe import probed

    networks, images = _models_and_data(models, options)
    _show(probed(networks, images, out, options), Path(out) / "results.nc")


@main.command(
    help="Probe two or more models under the same perturbations, and write results, figures and a report.\n\n"
    f"{FORM}\n\n"
    "\b\nnetprobe compare natural=resnet18@nt.pt robust=resnet18@at.pt --data cifar10 \\\n"
    "    --perturb pgd:eps=8/255,steps=20 --perturb noise=gaussian:std=0.1 -o out/\n"
    "netprobe compare standard=runs/standard/best.pt hah=runs/hah/best.pt --data cifar10 --limit 1000 \\\n"
    "    --perturb noise=gaussian:std=0.1 --sites block,block:in --gradcam-at features.0 \\\n"
    "    --sweep 'gaussian std=0,0.05,0.1,0.15,0.2' --evaluate fmn:norm=l2 --corruptions 5"
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
    gradcam: int,
    gradcam_at: str | None,
    weights: bool,
    **options: Any,
) -> None:
    from netprobe.cli.probe import Extras, probed
    from netprobe.cli.sweeps import all_perturbations
    from netprobe.errors import NetprobeError
    from netprobe.outcome import draw

    if len(models) < 2:
        raise NetprobeError("compare needs two models or more; `netprobe probe` takes one")
    networks, images = _models_and_data(models, options)
    more = alone or sweep or corruptions
    named = all_perturbations(alone, sweep, corruptions, images.shape) if more else {}
    tree = probed(networks, images, out, options, Extras(gradcam, gradcam_at, weights, named))
    _show(tree, draw(tree, out))


@main.command(
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
    from netprobe.cli.evaluate import evaluated, of_preset, transferred
    from netprobe.cli.sweeps import all_perturbations
    from netprobe.outcome import draw

    sources, surrogates = (_loaded(each, {name: options[name] for name in LOADING}) for each in (transfer, surrogate))
    networks, images = _models_and_data(models, options)
    whole = of_preset(preset, networks, images, surrogates, options["device"])
    named = all_perturbations(perturbations, sweep, corruptions, images.shape, whole)
    named |= transferred(named, sources, options["device"])
    tree = evaluated(networks, images, named, out, landscape, options)
    _show(tree, draw(tree, out))


@main.command(
    help="Train a network with a DEFENSE, such as natural, pgd-at or polarizing, with settings after a colon.\n\n"
    "Checkpoints and history are kept in the output folder: after Ctrl-C or a kill the same command goes on from "
    "there. best.pt is the best epoch by held-out images, under attack where the defense attacks; it loads by itself "
    "in every other command. `netprobe defenses` lists defenses and settings.\n\n"
    f"{TRAIN_EXAMPLES}"
)
@click.argument("defense")
@click.option("--model", required=True, help="the network, as MODEL in other commands; weights are random without @")
@model_flags
@training_data_flags
@preset_flag
@recipe_flags
@click.option(
    "--regularise",
    multiple=True,
    metavar="SPEC",
    help="a term that joins the loss, such as l2:coupling=5e-4 or jacobian:site=hidden; repeatable; "
    "`netprobe regularisers` lists all",
)
@click.option(
    "--select",
    multiple=True,
    metavar="SETTING=VALUES",
    help="train with each of these values of a setting of the regulariser, such as coupling=1,4,10, and without it; "
    "choose the one that stands most of --select-by among those that keep 90 % of the clean accuracy; repeatable",
)
@click.option("--select-by", default="gaussian:std=0.1", show_default=True, metavar="SPEC", help="a perturbation")
@click.option("--device", help="where to train, for example cuda:0; by default a GPU if there is one")
@click.option("-o", "--out", default="runs/train", show_default=True, help="folder for checkpoints, history and report")
@errors_as_usage
def train(
    defense: str,
    model: str,
    preset: str,
    regularise: tuple[str, ...],
    select: tuple[str, ...],
    select_by: str,
    device: str | None,
    out: str,
    **options: Any,
) -> None:
    from netprobe.cli.train import selected, trained

    loading = {key: options.pop(key) for key in LOADING}
    images = inputs(options, options["seed"] or 0, "train")
    recipe = {name: value for name, value in options.items() if value is not None}
    loading["normalize"] = normalization(loading["normalize"])
    if select:
        selection = selected(
            defense, model, images, preset, recipe, out, device, regularise, select, select_by, **loading
        )
        click.echo(f"\n{selection!r}")
        return
    result = trained(defense, model, images, preset, recipe, out, device, regularise, **loading)
    click.echo(f"\n{result!r}\n\nwritten: {Path(out) / 'best.pt'}")


@main.command()
def defenses() -> None:
    """List the defenses and their settings.

    A defense is written NAME:SETTING=VALUE,...; numbers may be fractions. For example:

    \b
    pgd-at:eps=8/255,steps=10
    trades:eps=8/255,beta=6
    """
    from netprobe.defenses import DEFENSES

    _list_settings(DEFENSES)


@main.command()
def regularisers() -> None:
    """List the regularisers and their settings.

    A regulariser joins any defense: `netprobe train DEFENSE --regularise NAME:SETTING=VALUE,...`. For example:

    \b
    l2:coupling=5e-4
    jacobian:site=hidden,wrt=scaled,projections=3
    spectral:site=relu,alpha=1,tau=10
    """
    from netprobe.defenses.regularisers import REGULARISERS

    _list_settings(REGULARISERS)


@main.command(
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
    from netprobe.cli.weights import table
    from netprobe.errors import NetprobeError
    from netprobe.outcome import REPORT, write
    from netprobe.weights import analyse

    if shape is None and options["data"] is None:
        raise NetprobeError("give --input, for example --input 3,32,32, or --data: singular values depend on the size")
    size = None if shape is None else _input_shape(shape)
    networks = _loaded(models, {key: options.pop(key) for key in LOADING})
    images = inputs(options, options["seed"])
    named = named_perturbations(perturbations) if perturbations else None
    tree = analyse(networks, size, data=images, perturbations=named, **options)
    write(tree, out)
    for name in networks:
        click.echo(f"\n{name}\n{_columns(table(tree[name]), right=range(2, 9))}")
    _show(tree, Path(out) / REPORT)


@main.command(
    help="Smoothness: norms of Jacobians, distances to errors, spectra under images and noise, a plane.\n\n"
    f"{FORM}\n\n{GEOMETRY_EXAMPLES}"
)
@click.argument("models", nargs=-1, required=True)
@model_flags
@data_flags
@geometry_flags
@click.option("--device", help="where to run, for example cuda:0; by default where the model is")
@click.option("-o", "--out", default="runs/geometry", show_default=True, help="folder for results, figures and report")
@errors_as_usage
def geometry(models: tuple[str, ...], out: str, device: str | None, **options: Any) -> None:
    from netprobe.geometry import analyse
    from netprobe.outcome import REPORT, write

    networks, images = _models_and_data(models, options)
    tree = analyse({name: net.to(device) if device else net for name, net in networks.items()}, images, **options)
    write(tree, out)
    _show(tree, Path(out) / REPORT)


@main.command(
    help="Which images, and which layers, are alike: similarity matrices, RSA and CKA of one model or several.\n\n"
    "Every site of every model, clean and under each --perturb, is compared with every other, with the pixels and with "
    "each --reference. Without --limit 500 images are taken: a matrix grows with their square.\n\n"
    f"{FORM}\n\n{SIMILARITY_EXAMPLES}"
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
    from netprobe.cli.similarity import LIMIT, similar, table
    from netprobe.outcome import REPORT, write

    limited = options["limit"]
    networks, images = _models_and_data(models, options)
    images = images if limited or len(images) <= LIMIT else images.take(LIMIT, options["seed"])
    named = named_perturbations(perturbations) if perturbations else None
    asked = {key: options.pop(key) for key in ("measure", "centre", "estimator", "resamples", "permutations", "sites")}
    tree = similar(networks, images, named, options.pop("reference"), settings=options, **asked)
    write(tree, out)
    click.echo(_columns(table(tree), right=(2, 3)))
    _show(tree, Path(out) / REPORT)


@main.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--out", help="folder for report.html and figures; by default that of RESULTS")
@errors_as_usage
def report(results: str, out: str | None) -> None:
    """Draw the figures and the report of a results.nc again."""
    from netprobe.outcome import draw
    from netprobe.store import open_results

    click.echo(draw(open_results(results), out or Path(results).parent))


@main.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--out", help="folder for results, figures and report; by default `seeds` beside RESULTS")
@errors_as_usage
def seeds(results: str, out: str | None) -> None:
    """Average the models of a results.nc over seeds: NAME-0, NAME-1, ... become one, NAME.

    Intervals are then t intervals over trainings, and groups are compared with each other.

    \b
    netprobe evaluate plain-0=a.pt plain-1=b.pt similar-0=c.pt similar-1=d.pt --data cifar10 -o out/
    netprobe seeds out/results.nc
    """
    from netprobe.outcome import REPORT, write
    from netprobe.seeds import over_seeds
    from netprobe.store import open_results

    tree, folder = over_seeds(open_results(results)), Path(out or Path(results).parent / "seeds")
    write(tree, folder)
    _show(tree, folder / REPORT)


@main.command()
@click.argument("parts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--out", default="runs/merged", show_default=True, help="folder for results.nc")
@errors_as_usage
def merge(parts: tuple[str, ...], out: str) -> None:
    """Join the partial.pt files of shards (probe --shard i/n), exactly."""
    from netprobe.probing import merge as join
    from netprobe.store import save_results

    tree = join(parts).compute()
    save_results(tree, Path(out) / "results.nc")
    _show(tree, Path(out) / "results.nc")


@main.command()
def presets() -> None:
    """List the presets of `netprobe evaluate` and their settings.

    A preset is written NAME:SETTING=VALUE,...; several values of one setting have colons between. For example:

    \b
    black-box
    black-box:parts=noise:boundary,boundary_steps=50:5000,repeats=1
    """
    from netprobe.evaluation.presets import PRESETS

    _list_settings(PRESETS)


@main.command()
def perturbations() -> None:
    """List the perturbations and their settings.

    A perturbation is written NAME:SETTING=VALUE,...; numbers may be fractions. For example:

    \b
    pgd:eps=8/255,steps=40,restarts=5
    pgd:eps=0.5,norm=l2,loss=cw
    gaussian:std=0.1
    """
    from netprobe.perturb import PERTURBATIONS

    _list_settings(PERTURBATIONS)


@main.command()
def metrics() -> None:
    """List the metrics and their settings.

    `--metrics` takes names, with commas between them; settings are given in Python.
    """
    from netprobe.metrics import METRICS

    _list_settings(METRICS)


def _list_settings(kinds: Mapping[str, type]) -> None:
    """Every class by its name: what it is, its settings and their defaults; and what is wrong with plug-ins."""
    from netprobe.errors import NetprobeError

    for name in kinds:
        try:
            kind = kinds[name]
        except NetprobeError as error:
            click.echo(f"{name}: {error}")
        else:
            click.echo(f"{name}: {_told(kind)}")
    for fault in getattr(kinds, "shadowed", ()):
        click.echo(fault)


def _told(kind: type) -> str:
    """The first line of what a dataclass says of itself, and one of its settings with their defaults."""
    import dataclasses

    said = (kind.__doc__ or "").strip().partition("\n")[0]
    shown = (f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default}" for f in dataclasses.fields(kind))
    return f"{said}\n    {', '.join(shown)}"


main.add_command(partial)
main.add_command(figures)


def _loaded(models: list[str] | tuple[str, ...], loading: dict[str, Any]) -> dict[str, Any]:
    settings = loading | {"normalize": normalization(loading["normalize"]), "unsafe": loading["unsafe"] or None}
    return load_all(models, settings.pop("arch"), **settings)


def _models_and_data(models: tuple[str, ...], options: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """What was named, loaded; its options are taken out of `options`."""
    networks = _loaded(models, {key: options.pop(key) for key in LOADING})
    return networks, inputs(options, options["seed"])


def _input_shape(text: str) -> tuple[int, ...]:
    from netprobe.errors import NetprobeError

    try:
        return tuple(int(n) for n in text.split(","))
    except ValueError:
        raise NetprobeError(f"--input {text!r}: write the shape of one input, for example 3,32,32") from None


def _show(tree: Any, written: Path) -> None:
    from netprobe.reporting.verdict import verdict

    click.echo(f"\n{verdict(tree)}\n\nwritten: {written}")


def _columns(rows: list[tuple[str, ...]], right: Container[int] = ()) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = [str.rjust if i in right else str.ljust for i in range(len(widths))]
    return "\n".join(
        "  ".join(p(cell, w) for p, cell, w in zip(pad, row, widths, strict=True)).rstrip() for row in rows
    )

"""`netprobe train`: build or load, train, and write what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netprobe.cli.models import LOADING, normalization
from netprobe.cli.options import (
    errors_as_usage,
    inputs,
    interrupted,
    model_flags,
    preset_flag,
    recipe_flags,
    training_data_flags,
)
from netprobe.errors import NetprobeError

EXAMPLES = """\b
netprobe train natural --data digits --model digits_cnn --preset quick -o runs/natural
netprobe train pgd-at:eps=8/255,steps=10 --data cifar10 --model resnet18 --normalize cifar10 -o runs/robust
netprobe train trades:beta=6 --data cifar10 --model resnet32_thin --precision bfloat16 --epochs 30 -o runs/trades
netprobe train polarizing --data mnist --model lenet --precision bfloat16 -o runs/polarizing
netprobe train natural --data mnist --model shallow --regularise jacobian:site=hidden,wrt=scaled -o runs/jacobian
netprobe train similarity --data mnist --model resnet18,stem=7 -o runs/similarity
netprobe train similarity --data mnist --model resnet18,stem=7 --select coupling=4,10 --select threshold=0.2,0.8
netprobe train similarity:images=stimuli.npz,split=all,target=neural.npy,threshold=none --data cifar10 --model resnet18
netprobe train sparse-coding:top=15 --data cifar10 --model resnet32_thin --normalize cifar10 -o runs/sparse
torchrun --nproc-per-node=4 -m netprobe train fast --data cifar10 --model resnet18 -o runs/fast
netprobe compare runs/natural/best.pt runs/robust/best.pt --data cifar10"""


SHOWN = 2000
"""Training images that the report's views of a front end are made of."""


def trained(
    defense: str,
    model: str,
    data: Any,
    preset: str,
    recipe: dict[str, Any],
    out: str,
    device: str | None,
    regularise: tuple[str, ...] = (),
    **how: Any,
) -> Any:
    """The result of training, its checkpoints, history, figures and report in the folder `out`.

    `how` to load the model that `model` names on the command line.
    """
    from netprobe.devices import preferred_device
    from netprobe.processes import leave, processes
    from netprobe.reporting.outcome import write
    from netprobe.training import fit

    together = processes()  # first: it says which GPU is this process's
    chosen, regularisers, network = _asked(defense, regularise, model, data, recipe, how)
    device = device or preferred_device()
    try:
        options = {"regularise": regularisers, "out": out, "device": device, "name": Path(out).name}
        result = fit(chosen, network, data, preset, **options, **recipe)
    except KeyboardInterrupt:
        interrupted(f"{out}/last.pt")
    if together.leads:
        write(result.results(Path(out).resolve().name, data.take(min(len(data), SHOWN))), out)
    leave()
    return result


def selected(
    defense: str,
    model: str,
    data: Any,
    preset: str,
    recipe: dict[str, Any],
    out: str,
    device: str | None,
    regularise: tuple[str, ...],
    select: tuple[str, ...],
    by: str,
    **how: Any,
) -> Any:
    """What `select_regulariser` found; everything that it trained is in the folder `out`."""
    from netprobe.devices import preferred_device
    from netprobe.training.selecting import select_regulariser

    chosen, regularisers, network = _asked(defense, regularise, model, data, recipe, how)
    if len(regularisers) != 1:
        raise NetprobeError(f"--select is for one regulariser, and there are {len(regularisers)}")
    options = {"defense": chosen, "perturbation": by, "out": out, "device": device or preferred_device()}
    try:
        return select_regulariser(regularisers[0], _grid(select), network, data, preset, **options, **recipe)
    except KeyboardInterrupt:
        interrupted(out)


def _asked(
    defense: str, regularise: tuple[str, ...], model: str, data: Any, recipe: dict[str, Any], how: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], Any]:
    """The defense, every setting known, the regularisers, and the network, with the inputs that the defense gives."""
    from netprobe.cli.models import new_network
    from netprobe.training.regularising import asked

    chosen, regularisers = asked(defense, regularise)
    chosen = chosen.completed(data)
    network, _ = new_network(model, how, data, recipe.get("seed", 0), chosen.channels(data.shape[0]))
    return chosen, regularisers, network


def _grid(select: tuple[str, ...]) -> dict[str, list[Any]]:
    """Values by setting: "coupling=1,4,10"."""
    from netprobe.fields import literal

    found = {}
    for text in select:
        name, equals, values = text.partition("=")
        if not (name and equals and values):
            raise NetprobeError(f"cannot read --select {text!r}: write SETTING=VALUES, such as coupling=1,4,10")
        found[name] = [literal(value) for value in values.split(",")]
    return found


@click.command(
    help="Train a network with a DEFENSE, such as natural, pgd-at or polarizing, with settings after a colon.\n\n"
    "Checkpoints and history are kept in the output folder: after Ctrl-C or a kill the same command goes on from "
    "there. best.pt is the best epoch by held-out images, under attack where the defense attacks; it loads by itself "
    "in every other command. `netprobe defenses` lists defenses and settings.\n\n"
    f"{EXAMPLES}"
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
    help="train with each of these values of a setting of the regulariser, such as coupling=1,4,10 or "
    "target=pixels,neural.npy, and without it; choose the one that stands most of --select-by among those that "
    "keep 90 % of the clean accuracy; repeatable",
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

"""What `netprobe partial` does: a sweep, or the commands of its cells, and what came out as results and report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from netprobe.cli.models import normalization
from netprobe.cli.options import (
    errors_as_usage,
    form_flags,
    interrupted,
    model_flags,
    preset_flag,
    sweep_recipe_flags,
    whole_numbers,
)

EXAMPLES = """\b
netprobe partial --model digits_cnn --data digits --adversarial pgd-at:eps=0.15,steps=7 \\
    --cutoffs blocks --preset quick -o runs/digits
netprobe partial --model resnet18 --normalize cifar10 --data cifar10 --codes A1N2,N1A2 --cutoffs all -o runs/resnet
netprobe partial --model vgg16 --data cifar10 --codes N2A1_l,A2N1_l --seeds 0 --epochs 30 -o runs/layers
netprobe partial --model resnet18 --data cifar10 -o runs/resnet --print-cells > cells.txt
sbatch --array=1-$(wc -l < cells.txt) --wrap='eval "$(sed -n ${SLURM_ARRAY_TASK_ID}p cells.txt)"'"""

CODES = """A CODE has two parts, the early layers first: A adversarial, N natural; 1 trained as a whole network and then
kept, 2 drawn anew and trained while the other part is frozen. A1N2, N1A2, A2N1, N2A1; controls N1N2, A1A2, N2N1, A2A1;
N2A1_l and A2N1_l retrain the single layer at the cutoff."""

ELSEWHERE = ("print_cells", "cells")
"""Flags that say what to do with the grid, and so are not in the command of a cell."""


@click.command(
    help="Train networks whose early and late layers are trained in different ways, at every cutoff, and test them.\n\n"
    f"{CODES}\n\n"
    "Finished cells are kept in the output folder: after Ctrl-C or a kill the same command goes on from there, and a "
    "larger grid computes only what is new. Commands that run at the same time share the work of one folder. With "
    "--print-cells it prints one command a cell, for other machines; once they are done, the command itself collects "
    f"the results.\n\n{EXAMPLES}"
)
@click.option("--model", required=True, help="the network, as MODEL in other commands; its weights are drawn anew")
@model_flags
@click.option("--data", required=True, help="name, folder, word folder or .npz file; its parts train and test")
@click.option("--limit", type=int, help="so many training images, every class its share")
@click.option("--test-limit", type=int, help="so many test images, every class its share")
@form_flags
@click.option("--codes", default="A1N2,N1A2,A2N1,N2A1", show_default=True, help="which codes")
@click.option(
    "--cutoffs", default="all", show_default=True, help="all, blocks, or numbers of early layers and names: 0,4,layer3"
)
@click.option("--seeds", default="0,1,2", show_default=True, help="repetitions: 0,1,2 or 0-4")
@click.option("--natural", default="natural", show_default=True, help="what N is; `netprobe defenses` lists settings")
@click.option("--adversarial", default="pgd-at", show_default=True, help="what A is: pgd-at:eps=8/255,steps=10")
@click.option("--test", help="the test attack; by default PGD-100 with steps of eps/8 within the eps of --adversarial")
@preset_flag
@sweep_recipe_flags
@click.option("--keep-models", is_flag=True, help="keep checkpoints of stage 2, too")
@click.option("--device", help="where to train, for example cuda:0; by default a GPU if there is one")
@click.option("--progress/--no-progress", default=True, show_default=True, help="show progress bars")
@click.option("--cell", "cells", multiple=True, help="compute this cell alone, and write no results; repeatable")
@click.option("--print-cells", is_flag=True, help="print one command a cell, whole networks first, and compute nothing")
@click.option("-o", "--out", default="runs/partial", show_default=True, help="folder for results, figures and report")
@errors_as_usage
def partial(
    model: str, out: str, cells: tuple[str, ...], print_cells: bool, preset: str, seeds: str, **options: Any
) -> None:
    loading = {key: options.pop(key) for key in ("arch", "normalize", "num_classes", "key", "unsafe")}
    images = _images(*(options.pop(key) for key in ("data", "limit", "test_limit", "size", "channels", "length")))
    settings = {key: value for key, value in options.items() if value is not None}
    network, name = _model(model, loading | {"normalize": normalization(loading["normalize"])}, images[0])
    asked = settings | {"recipe": preset, "seeds": numbers(seeds), "out": out}
    if print_cells:
        click.echo(commands(network, images, asked))
        return
    data = _swept(network, name, images, asked | {"only": cells or None})
    if cells:
        click.echo(f"done: {', '.join(cells)}; the command without --cell collects the results")
        return
    _show(written(data, name, out), out)


def _images(
    data: str,
    limit: int | None,
    test_limit: int | None,
    size: int | None,
    channels: int | None,
    length: int | None,
) -> tuple[Any, Any]:
    from netprobe.data import load

    form = {"size": size, "channels": channels, "length": length}
    return load(data, "train", limit=limit, **form), load(data, "test", limit=test_limit, **form)


def _swept(network: Any, name: str, images: tuple[Any, Any], asked: dict[str, Any]) -> Any:
    """The results of a sweep; interrupted, what was done is written and the process ends."""
    from netprobe.training.partial import Interrupted, sweep

    try:
        return sweep(network, images, **asked)
    except Interrupted as stopped:
        out = asked["out"]
        written(stopped.results, name, out)
        interrupted(f"{out}/results.nc")


def commands(network: Any, images: tuple[Any, Any], asked: dict[str, Any]) -> str:
    """One line a unit of work: this command for it alone. Whole networks come first, since cells begin with them."""
    from netprobe.training.partial.planning import grid_of

    again = shlex.join(["netprobe", "partial", *_given(click.get_current_context())])
    return "\n".join(f"{again} --cell {unit.label}" for unit in grid_of(network, images, **asked).units)


def _given(context: click.Context) -> list[str]:
    """The flags of the command line as they were given."""
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name
        if name in ELSEWHERE or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value, flag = context.params[name], parameter.opts[-1]
        if isinstance(value, bool):
            words.append(flag if value or not parameter.secondary_opts else parameter.secondary_opts[-1])
        else:
            words += [flag, str(value)]
    return words


def _model(what: str, loading: Mapping[str, Any], train: Any) -> tuple[Any, str]:
    """The network and its name in the results."""
    from netprobe.cli.models import new_network, parse
    from netprobe.errors import NetprobeError

    if parse(what, loading["arch"]).checkpoint:
        raise NetprobeError(
            f"--model {what}: stage 1 begins with weights drawn anew, so a checkpoint has no effect; leave it out"
        )
    network, argument = new_network(what, loading, train, 0)
    return network, argument.name


def written(data: Any, name: str, out: str) -> Any:
    """The results as a tree, kept as results.nc."""
    import xarray as xr

    from netprobe.reporting.outcome import RESULTS
    from netprobe.store import save_results

    root = xr.Dataset(attrs={"provenance": data.attrs["provenance"]})
    tree = xr.DataTree.from_dict({"/": root, f"/{name}/partial": data})
    save_results(tree, Path(out) / RESULTS)
    return tree


def _show(tree: Any, out: str) -> None:
    from netprobe.reporting.outcome import draw
    from netprobe.reporting.verdict import verdict

    click.echo(f"\n{verdict(tree)}\n\nwritten: {draw(tree, out)}")


def numbers(text: str) -> list[int]:
    """The seeds in "0,1,2" or "0-4"."""
    return whole_numbers(text, "seeds", "0,1,2 or 0-4")

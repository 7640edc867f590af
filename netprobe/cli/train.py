"""What `netprobe train` does: build or load, train, and write what became of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

EXAMPLES = """\b
netprobe train natural --data digits --model digits_cnn --preset quick -o runs/natural
netprobe train pgd-at:eps=8/255,steps=10 --data cifar10 --model resnet18 --normalize cifar10 -o runs/robust
netprobe train trades:beta=6 --data cifar10 --model resnet32_thin --precision bfloat16 --epochs 30 -o runs/trades
torchrun --nproc-per-node=4 -m netprobe train fast --data cifar10 --model resnet18 -o runs/fast
netprobe compare runs/natural/best.pt runs/robust/best.pt --data cifar10"""


def trained(
    defense: str, model: str, data: Any, preset: str, recipe: dict[str, Any], out: str, device: str | None, **how: Any
) -> Any:
    """The result of training, its checkpoints, history, figures and report in the folder `out`.

    `how` to load the model that `model` names on the command line.
    """
    from netprobe.cli.models import parse
    from netprobe.outcome import write
    from netprobe.processes import leave, processes
    from netprobe.training import fit
    from netprobe.training.initial import initial

    argument = parse(model, how.pop("arch"))
    given = {name: value for name, value in how.items() if value} | argument.settings
    if argument.checkpoint:
        given["checkpoint"] = argument.checkpoint
    network = initial(argument.what, data, recipe.get("seed", 0), **given)
    try:
        result = fit(defense, network, data, preset, out=out, device=device, name=Path(out).name, **recipe)
    except KeyboardInterrupt:
        click.echo(f"interrupted; {out}/last.pt holds what was done, and the same command goes on from there", err=True)
        sys.exit(130)
    if processes().leads:
        write(result.results(Path(out).resolve().name), out)
    leave()
    return result

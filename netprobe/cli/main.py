"""The command line: one file beside this one for every verb."""

from __future__ import annotations

import click

from netprobe.cli.check import check
from netprobe.cli.compare import compare
from netprobe.cli.demo import demo
from netprobe.cli.evaluate import evaluate
from netprobe.cli.figures import figures
from netprobe.cli.geometry import geometry
from netprobe.cli.layers import layers
from netprobe.cli.listing import defenses, metrics, perturbations, presets, regularisers
from netprobe.cli.partial import partial
from netprobe.cli.probe import probe
from netprobe.cli.results import merge, report, seeds
from netprobe.cli.similarity import similarity
from netprobe.cli.train import train
from netprobe.cli.weights import weights


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


for verb in (
    demo,
    layers,
    check,
    probe,
    compare,
    evaluate,
    train,
    weights,
    geometry,
    similarity,
    partial,
    figures,
    report,
    seeds,
    merge,
    defenses,
    regularisers,
    presets,
    perturbations,
    metrics,
):
    main.add_command(verb)

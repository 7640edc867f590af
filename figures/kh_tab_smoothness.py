"""Table of arXiv 2405.00679: accuracy, distances to errors, exponents of spectra and Jacobians of five networks.

    python figures/kh_tab_smoothness.py --run --scale smoke -o runs/figures

prints it of one seed, with the control that the publication has for spectra alone; of several seeds and other settings

    python figures/kh_tab_smoothness.py --data cifar10 -o runs/smoothness-cifar10
    python figures/kh_tab_smoothness.py --data mnist --local krotov-hopfield:local_epochs=100 \\
        --decoder-epochs 20 --epochs 20 -o runs/smoothness-mnist

trains, for every seed, on images of unit L_3 norm,

    KH         2000 units learnt locally, pruned and frozen, ReLU(h)^4.5, and a read-out
    untrained  the same with the units at their random start: the control
    BP         2000 units trained end to end
    L2         with 5e-4 times the squares of all parameters
    JReg       with 1e-3 ||d hidden / d scale||_F^2
    SpecReg    with the distance of the spectrum of relu to 1/n, anchored at rank 10, and batch norm

and prints accuracy on test images; the median over images of the least L2 norm that a random direction, FGSM or PGD
needs, where the image is divided by its L_3 norm; the exponents of the spectrum of the pre-activations under images and
under noise; and the mean of ||d relu / d scale||_F over images. With one seed with 95 % intervals over images, with
several the mean over the seeds with the 95 % t interval; of CIFAR-10 with what was published, of one seed, in brackets.
Learning rates have the published steps if there are as many epochs, else they fall by a cosine. What was done is kept,
so that the same call goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import published
import xarray as xr
from studies.krotov_hopfield import (
    HIDDEN,
    KINDS,
    REPRESENTATION,
    SITE,
    WALKS,
    Smoothness,
    of_network,
)

import netprobe as npb
from netprobe.cli.figures import as_help, run_script
from netprobe.defenses.krotov_hopfield.defense import KrotovHopfieldDefense
from netprobe.gallery import Table

Estimate = tuple[float, float, float]
"""A number, and the bounds of its interval."""


def _read(group: str, name: str, interval: str, scale: float = 1, **labels: Any) -> Callable[[xr.DataTree], Estimate]:
    """What reads a number, and its interval, from what was measured of a network."""

    def read(measured: xr.DataTree) -> Estimate:
        data = measured[group].to_dataset().sel(**labels)
        return tuple(scale * float(value) for value in (data[name], *data[interval].values.ravel()))

    return read


def _alpha(inputs: str) -> Callable[[xr.DataTree], Estimate]:
    """The exponent of all units before the rectifier."""

    def read(measured: xr.DataTree) -> Estimate:
        data = measured["spectra"].to_dataset().sel(inputs=inputs, site=SITE).isel(count=-1)
        return tuple(float(value) for value in (data["alpha"], *data["alpha_jackknife"].values))

    return read


COLUMNS = {
    "accuracy": _read("accuracy", "accuracy", "accuracy_interval", 100, condition="clean"),
    **{f"distance, {w}": _read("distances", "median_scaled", "median_scaled_interval", walk=w) for w in WALKS},
    "α, images": _alpha("images"),
    "α, noise": _alpha("noise"),
    "‖J‖_F": _read("jacobians", "mean_frobenius", "mean_frobenius_interval", site=REPRESENTATION),
}


@click.command(help=as_help(__doc__))
@click.option("--data", default="cifar10", show_default=True, help="Name or path of the images.")
@click.option("--train-limit", type=int, help="How many training images; all by default.")
@click.option("--limit", type=int, help="How many test images; all by default.")
@click.option("--walked", default=1000, show_default=True, help="Test images whose distances and Jacobians are told.")
@click.option("--hidden", default=HIDDEN, show_default=True, help="Units.")
@click.option("--local", default=KrotovHopfieldDefense.name, show_default=True, help="Local learning, as a spec.")
@click.option("--decoder-epochs", default=1000, show_default=True, help="Epochs on top of units that stay.")
@click.option("--epochs", default=1000, show_default=True, help="Epochs of the networks trained end to end.")
@click.option("--batch-size", default=1000, show_default=True, help="Images of a step; of SpecReg 3500 at least.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="Which of the networks.")
@click.option("-o", "--out", default="runs/smoothness", show_default=True, type=click.Path(path_type=Path))
def main(data: str, train_limit: int | None, limit: int | None, kinds: str, seeds: int, out: Path, **how: Any) -> None:
    """Train, measure, and print, network by network."""
    train, test = npb.data.load(data, "train", limit=train_limit), npb.data.load(data, limit=limit)
    print(f"{test.name}, {len(train):,} training images, {len(test):,} test images", *published.head(COLUMNS), sep="\n")
    for name in kinds.split(","):
        measured = [of_network(name, seed, train, test, out, blocks=seeds == 1, **how) for seed in range(seeds)]
        print(f"| {name} | " + " | ".join(_cells(name, measured, test.name)) + " |", flush=True)


def _cells(name: str, measured: Sequence[xr.DataTree], data: str) -> Iterator[str]:
    """Ours, of CIFAR-10 with the published number in brackets."""
    known = KINDS[name].paper if data.startswith("cifar10") else None
    for column, number in zip(COLUMNS, known or (None,) * len(COLUMNS), strict=True):
        found = [COLUMNS[column](each) for each in measured]
        yield _estimate(found) + ("" if number is None else f" (paper {number:g})")


def _estimate(found: Sequence[Estimate]) -> str:
    """Of one seed the estimate and, if it has one, its interval over images; of several mean and t interval."""
    if len(found) == 1:
        value, *bounds = found[0]
        return f"{value:.3g}" if np.isnan(bounds).all() else published.estimate(value, *bounds)
    return published.over_seeds([value for value, _, _ in found])


def rows(study: Smoothness) -> list[str]:
    """Of every data set of the study, of one seed or several."""
    return [line for data in study.settings["members"] for line in [*_of_data(study, data), ""]]


def _of_data(study: Smoothness, data: str) -> list[str]:
    lines = [f"| {name} | " + " | ".join(_cells(name, trees, data)) + " |" for name, trees in study.every(data).items()]
    seeds = ", ".join(f"{name} {number}" for name, number in study.settings["members"][data].items())
    return [*published.head(COLUMNS), *lines, "", f"{data}, number of seeds: {seeds}"]


TABLE = Table(__file__, __doc__, Smoothness, rows)

if __name__ == "__main__":
    run_script(TABLE, otherwise=main)

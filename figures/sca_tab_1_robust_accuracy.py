"""Table 1 of arXiv 2308.03956: accuracy over eps of networks that were trained on clean images.

    python figures/sca_tab_1_robust_accuracy.py --run --scale smoke -o runs/figures

prints it of one seed; of several seeds, other data and settings, and with the correlation shift,

    python figures/sca_tab_1_robust_accuracy.py --data mnist --width 512 --seeds 3 -o runs/sca-mnist
    python figures/sca_tab_1_robust_accuracy.py --data fashion-mnist --width 512 --steps 1,2,4,8,16 -o runs/sca-steps
    python figures/sca_tab_1_robust_accuracy.py --data speech-commands --length 16000 -o runs/sca-words

trains, for every seed, a network with the layer for each T of --steps, the same without its steps (T=0, a perceptron
with one hidden layer), and a perceptron of as many parameters with four (MLP), by the published recipe; attacks each
with APGD in Linf through all of its steps; and prints accuracies, and D(eps) = ||R_0 - R_eps||_F of the last hidden
layer on the first --correlated samples, these perturbed for each network. In per cent; with one seed with 95 % Wilson
intervals, with several the mean over the seeds with the 95 % t interval. The paper: T=16 is 4 to 6 points above the
MLP on perturbed data. What was done is kept, so that the same call goes on from there, and

    python figures/sca_tab_1_robust_accuracy.py --shown figures/results/sca-seeds/mnist

prints it again, here that of results in this repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import published
import xarray as xr
from studies.sca import EPS, LOW, MLP, SelfConsistency, perceptron
from torch import nn

import netprobe as npb
from netprobe.cli.figures import as_help, run_script
from netprobe.cli.options import whole_numbers
from netprobe.data import Data
from netprobe.defenses.sca.defense import PUBLISHED
from netprobe.gallery import Table
from netprobe.training.initial import initial
from netprobe.uncertainty import wilson

RESULTS, CORRELATION = "results.nc", "correlation.nc"


@click.command(help=as_help(__doc__))
@click.option("--data", default="mnist", show_default=True, help="Name or path of the images, or of recorded words.")
@click.option("--length", type=int, help="Of words: samples of every recording, such as 16000.")
@click.option("--train-limit", type=int, help="How many training samples; all by default.")
@click.option("--limit", type=int, help="How many test samples; all by default.")
@click.option("--correlated", default=1000, show_default=True, help="Samples for the correlation shift.")
@click.option("--width", default=2048, show_default=True, help="n, units of the self-consistent layer.")
@click.option("--steps", default="16", show_default=True, help="T of the layer, or several, like 1,2,4,8,16.")
@click.option("--epochs", default=100, show_default=True, help="The most epochs; 20 without a better one end training.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--attack-steps", default=50, show_default=True)
@click.option("--batch-size", type=int, help="Samples attacked at a time; told by memory by default.")
@click.option("-o", "--out", default="runs/sca", show_default=True, type=click.Path(path_type=Path))
@click.option(
    "--shown",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of an earlier call: print what it found, and compute nothing.",
)
def main(shown, out, **how) -> None:
    """Train, evaluate, and print."""
    if not shown:
        compute(out, **how)
    results, probed = (npb.open_results((shown or out) / name) for name in (RESULTS, CORRELATION))
    kinds, seeds = trainings(results)
    lines = [*published.settings_of(results)[:2], "", *accuracies(results, kinds, seeds), ""]
    print(*lines, *shifts(probed, kinds, seeds), sep="\n")


def compute(out, data, length, limit, train_limit, correlated, steps, seeds, attack_steps, batch_size, **how) -> None:
    """Write what the tables are made of."""
    train = npb.data.load(data, "train", limit=train_limit, length=length)
    test = npb.data.load(data, limit=limit, length=length)
    kinds = [MLP, *dict.fromkeys(f"T={each}" for each in (0, *whole_numbers(steps, "--steps", "16 or 1,2,4,8,16")))]
    networks = {f"{kind} {seed}": trained(kind, seed, train, out=out, **how) for seed in range(seeds) for kind in kinds}
    attacks = npb.sweep(f"apgd:steps={attack_steps}{LOW[test.kind]}", eps=EPS[test.kind])
    results = npb.evaluate(networks, test, attacks, folder=out, doubts=False, batch_size=batch_size)
    npb.save_results(results, out / RESULTS)
    some = test.select(range(min(correlated, len(test))))
    probed = npb.probe(networks, some, attacks, "correlation", sites="relu*", partial=out / "correlation-partial.nc")
    npb.save_results(probed, out / CORRELATION)


def trainings(results: xr.DataTree) -> tuple[list[str], int]:
    """The kinds of networks, and how many there are of each."""
    names = [name.rpartition(" ") for name in published.evaluated(results)]
    return list(dict.fromkeys(kind for kind, _, _ in names)), 1 + max(int(seed) for _, _, seed in names)


def trained(kind: str, seed: int, data: Data, width: int, epochs: int, out: Path) -> nn.Module:
    """One of the networks, its best epoch by validation loss."""
    defense = "natural" if kind == MLP else f"sca:steps={kind.removeprefix('T=')}"
    name, about = perceptron(data, width, kind == MLP)
    recipe = PUBLISHED.with_settings(epochs=epochs, seed=seed)
    folder = out / f"{kind}-{seed}"
    return npb.fit(defense, initial(name, data, seed, **about), data, recipe, out=folder, name=folder.name).model


def accuracies(results: xr.DataTree, kinds: Sequence[str], seeds: int) -> list[str]:
    """A line for each kind of network, a column for each eps."""
    found = {name: results[name]["evaluation"].to_dataset() for name in published.evaluated(results)}
    eps = next(iter(found.values()))["eps"].values
    lines = published.head(["clean", *(f"{each:g}" for each in eps[1:])])
    for name in kinds:
        runs = np.stack([found[f"{name} {seed}"]["correct"].values for seed in range(seeds)])  # (.., condition, image)
        cells = [_accuracy(runs[:, condition]) for condition in range(runs.shape[1])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _accuracy(runs: np.ndarray) -> str:
    """Of outcomes (seed, image)."""
    if len(runs) == 1:
        low, high = wilson(int(runs.sum()), runs.size)
        return published.estimate(100 * runs.mean(), 100 * low, 100 * high)
    return _over_seeds(100 * runs.mean(1))


def shifts(probed: xr.DataTree, kinds: Sequence[str], seeds: int) -> list[str]:
    """D(eps), and D over the number of pairs of units alive, of the last hidden layer."""
    found = {
        name: probed[name]["correlation"].to_dataset().isel(site=-1)
        for name in published.evaluated(probed, "correlation")
    }
    eps = next(iter(found.values()))["eps"].values
    lines = published.head([f"{each:g}" for each in eps])
    for quantity in ("shift", "shift_per_pair"):
        for name in kinds:
            runs = np.stack([found[f"{name} {seed}"][quantity].values for seed in range(seeds)])
            label = f"{name}, D(eps)" + ("" if quantity == "shift" else " / sqrt(n (n - 1))")
            lines.append(f"| {label} | " + " | ".join(_over_seeds(each) for each in runs.T) + " |")
    return lines


def _over_seeds(values: np.ndarray) -> str:
    """The mean and its t interval; a single value as it is."""
    return f"{values[0]:.3g}" if len(values) == 1 else published.over_seeds(values)


def rows(study: SelfConsistency) -> list[str]:
    """Of every data set of the study; no numbers of the work are known."""
    trees = map(study.clean, study.settings["data"])
    return [line for tree in trees for line in published.rows([tree], published.conditions(tree), {})]


TABLE = Table(__file__, __doc__, SelfConsistency, rows)

if __name__ == "__main__":
    run_script(TABLE, otherwise=main)

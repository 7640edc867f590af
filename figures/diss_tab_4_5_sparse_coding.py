"""Table 4.5 of Bakiskan (2022): the sparse coding front end without dropout under four attacks.

    python figures/diss_tab_4_5_sparse_coding.py --run --scale smoke -o runs/figures

trains and evaluates what the table is of, and prints it beside the published numbers;

    python figures/diss_tab_4_5_sparse_coding.py sparse=runs/sparse-15/best.pt \\
        NT=resnet32_thin@nt.pt,normalize=cifar10 AT=resnet32_thin@at.pt,normalize=cifar10 \\
        --data cifar10 --steps 40 --restarts 100 -o runs/table-4-5

evaluates every network, MODELS being as for `netprobe evaluate`, and prints the table: accuracies in per cent with
their 95 % Wilson intervals. What was done is kept, so that the same call goes on from there. Networks with a front end
are attacked through the backward pass --backward. Steps are of eps / 8 from random points, as published.
"""

from __future__ import annotations

import click
import published
from studies.sparse_coding import SparseCoding

from netprobe.cli.figures import as_help, run_script
from netprobe.gallery import Table
from netprobe.perturb import PGD

BUDGETS = {
    "linf-ce": {"eps": 8 / 255},
    "linf-cw": {"eps": 8 / 255, "loss": "cw"},
    "l2": {"eps": 0.6, "norm": "l2"},
    "l1": {"eps": 30.0, "norm": "l1"},
}
PAPER = {
    "sparse": (85.45, 37.33, 37.35, 60.47, 47.13),
    "NT": (92.66, 0.0, 0.0, 0.0, 0.0),
    "AT": (79.41, 43.27, 42.03, 52.09, 19.98),
    "TRADES": (75.17, 45.79, 42.87, 51.35, 21.15),
}


@click.command(help=as_help(__doc__))
@published.evaluating("runs/table-4-5")
@click.option("--steps", default=40, show_default=True, help="Steps of every attack.")
@click.option("--restarts", default=100, show_default=True, help="Random starts of every attack.")
@click.option("--backward", default="smooth-topu", show_default=True, help="Pass of a front end that attacks follow.")
def main(steps: int, restarts: int, backward: str, **run: object) -> None:
    """Evaluate, and print."""

    def attacks(way: str | None) -> dict[str, PGD]:
        shared = {"steps": steps, "restarts": restarts, "backward": way}
        return {name: PGD(**budget, **shared, step_size=budget["eps"] / 8) for name, budget in BUDGETS.items()}

    published.report(attacks, backward, ("clean", *BUDGETS), PAPER, **run)


def rows(study: SparseCoding) -> list[str]:
    """Of every network of the study."""
    return published.rows([study.attacked(name) for name in study.networks], ("clean", *BUDGETS), PAPER)


TABLE = Table(__file__, __doc__, SparseCoding, rows)

if __name__ == "__main__":
    run_script(TABLE, otherwise=main)

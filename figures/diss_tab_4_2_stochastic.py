"""Tables 4.2 and 4.3 of Bakiskan (2022): the sparse coding front end with dropout under adaptive attacks.

    python figures/diss_tab_4_2_stochastic.py --run --scale smoke -o runs/figures

trains and evaluates what the table is of, and prints it beside the published numbers;

    python figures/diss_tab_4_2_stochastic.py sparse=runs/sparse-50/best.pt AT=resnet32_thin@at.pt,normalize=cifar10 \\
        --twin runs/sparse-twin/best.pt --surrogate resnet32_thin@at.pt,normalize=cifar10 \\
        --data cifar10 --eot 40 -o runs/table-4-2

evaluates every network, MODELS being as for `netprobe evaluate`, and prints the tables: accuracies in per cent with
their 95 % Wilson intervals, Linf 8/255, steps of 1/255 from the image itself.

    white-box   gradients through the backward pass --backward of networks with a front end, each the mean of --eot
                realisations brought to unit L2 norm; for the others the plain gradient
    pw-t        made on the unsupervised twin, its front end taken for the identity, shown to the network
    black-box   made on the surrogate, shown to the network
    worst       images that stand all of them

Networks without a front end are attacked in the first way alone. What was done is kept, so that the same call goes on.
"""

from __future__ import annotations

import click
import published
from studies.sparse_coding import SparseCoding

from netprobe.cli.figures import as_help, run_script
from netprobe.cli.models import load_all
from netprobe.gallery import Table
from netprobe.perturb import PGD, Transfer

PAPER = {
    "sparse": (80.1, 61.3, 39.5, 57.8, 39.5),
    "NT": (93.1, None, None, None, 0.0),
    "AT": (79.4, None, None, None, 42.1),
    "RFGSM": (80.9, None, None, None, 42.4),
    "TRADES": (75.2, None, None, None, 45.8),
}
"""Of the other networks the paper gives the worst case under more restarts than here."""
SHOWN = ("clean", "white-box", "pw-t", "black-box", published.WORST)


@click.command(help=as_help(__doc__))
@published.evaluating("runs/table-4-2")
@click.option("--twin", required=True, help="The network trained without supervision, a MODEL.")
@click.option("--surrogate", required=True, help="The network that black-box attacks are made on, a MODEL.")
@click.option("--steps", default=20, show_default=True, help="Steps of every attack.")
@click.option("--eot", default=40, show_default=True, help="Realisations that a gradient is the mean of.")
@click.option("--backward", default="smooth", show_default=True, help="Pass of a front end that attacks follow.")
def main(twin: str, surrogate: str, steps: int, eot: int, backward: str, **run: object) -> None:
    """Evaluate, and print."""
    sources = load_all([f"twin={twin}", f"surrogate={surrogate}"], None)
    shared = {"steps": steps, "step_size": 1 / 255, "random_start": False}

    def attacks(way: str | None) -> dict[str, PGD | Transfer]:
        if way is None:
            return {"white-box": PGD(8 / 255, **shared)}
        averaged = {"eot": eot, "normalised": eot > 1}
        return {
            "white-box": PGD(8 / 255, **shared, **averaged, backward=way),
            "pw-t": Transfer(PGD(8 / 255, **shared, **averaged, backward="front-end"), sources["twin"]),
            "black-box": Transfer(PGD(8 / 255, **shared), sources["surrogate"]),
        }

    published.report(attacks, backward, SHOWN, PAPER, **run)


def rows(study: SparseCoding) -> list[str]:
    """Of the network with the front end; Table 4.5 has those without."""
    return published.rows([study.stochastic()], SHOWN, PAPER)


TABLE = Table(__file__, __doc__, SparseCoding, rows)

if __name__ == "__main__":
    run_script(TABLE, otherwise=main)

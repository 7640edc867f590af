"""Tables 5.1 and 5.3 of Bakiskan (2022): networks with HaH blocks, without, and without single components.

    python figures/diss_tab_5_1_hah.py --run --scale smoke -o runs/figures

trains and evaluates what the table is of, and prints it beside the published numbers;

    python figures/diss_tab_5_1_hah.py standard=runs/standard/best.pt HaH=runs/hah/best.pt --data cifar10 \\
        -o runs/table-5-1

evaluates every network, MODELS being as for `netprobe evaluate`, and prints the table: accuracies in per cent with
their 95 % Wilson intervals. The names standard, HaH, no-loss, batch-norm and no-threshold have published numbers;
"text" is what the text says where the authors' code does otherwise:

    netprobe train hah:blocks=0 --data cifar10 --model vgg16 --normalize cifar10 -o runs/standard
    netprobe train hah ...                               HaH
    netprobe train hah:scale=0 ...                       no-loss
    netprobe train hah:norm=batch ...                    batch-norm
    netprobe train hah:rule=none ...                     no-threshold
    netprobe train hah:variant=text ...                  text

    noise       Gaussian, standard deviation 0.1, clipped; one draw an image (the paper: a mean of 3)
    linf, l2    APGD on the cross-entropy, then targeted APGD; 2/255 and 0.25

What was done is kept, so that the same call goes on from there.
"""

from __future__ import annotations

import click
import published
from studies.hah import HaH

from netprobe.cli.figures import as_help, run_script
from netprobe.gallery import Table
from netprobe.perturb import AutoAttack, GaussianNoise

ATTACKS = {
    "noise": GaussianNoise(0.1),
    "linf": AutoAttack(2 / 255, version="apgd"),
    "l2": AutoAttack(0.25, norm="l2", version="apgd"),
}
PAPER = {
    "standard": (92.5, 26.6, 10.4, 13.9),
    "HaH": (87.3, 64.0, 21.5, 27.6),
    "no-loss": (89.7, 50.4, 8.8, 11.7),
    "batch-norm": (90.4, 46.7, 12.3, 17.4),
    "no-threshold": (89.9, 37.5, 3.7, 2.5),
}


@click.command(help=as_help(__doc__))
@published.evaluating("runs/table-5-1")
def main(**run: object) -> None:
    """Evaluate, and print."""
    published.report(lambda way: ATTACKS, None, ("clean", *ATTACKS), PAPER, **run)


def rows(study: HaH) -> list[str]:
    """Of all components."""
    return published.rows(study.components(), ("clean", *ATTACKS), PAPER)


TABLE = Table(__file__, __doc__, HaH, rows)

if __name__ == "__main__":
    run_script(TABLE, otherwise=main)

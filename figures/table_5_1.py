"""Tables 5.1 and 5.3 of Bakiskan (2022): networks with HaH blocks and without, beside the paper.

    python figures/table_5_1.py standard=runs/standard/best.pt HaH=runs/hah/best.pt --data cifar10 -o runs/table-5-1

evaluates every network, MODELS being as for `netprobe evaluate`, and prints the table: accuracies in per cent with
their 95 % Wilson intervals. The names standard, HaH, no-loss, batch-norm and no-threshold have published numbers:

    netprobe train hah:blocks=0 --data cifar10 --model vgg16 --normalize cifar10 -o runs/standard
    netprobe train hah ...                               HaH
    netprobe train hah:scale=0 ...                       no-loss
    netprobe train hah:norm=batch ...                    batch-norm
    netprobe train hah:rule=none ...                     no-threshold

    noise       Gaussian, standard deviation 0.1, clipped; one draw an image (the paper: a mean of 3)
    linf, l2    APGD on the cross-entropy, then targeted APGD; 2/255 and 0.25

What was done is kept, so that the same call goes on from there.
"""

from __future__ import annotations

import click
import published

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


@click.command(help=published.as_help(__doc__))
@published.evaluating("runs/table-5-1")
def main(**run: object) -> None:
    """Evaluate, and print."""
    published.report(lambda way: ATTACKS, None, ("clean", *ATTACKS), PAPER, **run)


if __name__ == "__main__":
    main()

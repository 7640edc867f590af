"""`netprobe geometry`: smoothness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netprobe.cli.models import FORM, models_and_data
from netprobe.cli.options import data_flags, errors_as_usage, geometry_flags, model_flags
from netprobe.cli.showing import show

EXAMPLES = """\b
netprobe geometry runs/kh/best.pt runs/bp/best.pt untrained=shallow --data mnist --limit 500 -o out/
netprobe geometry A.pt B.pt --data mnist --limit 200 --analyses distances --walks fgsm,coarse-pgd --points 400
netprobe geometry A.pt --data mnist --limit 2000 --analyses units,dimension --correction 32
netprobe geometry A.pt --data mnist --analyses plane --wrt scale --plane-site "re:^relu$" --plane-points 101"""


@click.command(
    help="Smoothness: norms of Jacobians, distances to errors, spectra under images and noise, a plane.\n\n"
    f"{FORM}\n\n{EXAMPLES}"
)
@click.argument("models", nargs=-1, required=True)
@model_flags
@data_flags
@geometry_flags
@click.option("--device", help="where to run, for example cuda:0; by default where the model is")
@click.option("-o", "--out", default="runs/geometry", show_default=True, help="folder for results, figures and report")
@errors_as_usage
def geometry(models: tuple[str, ...], out: str, device: str | None, **options: Any) -> None:
    from netprobe.geometry import analyse
    from netprobe.reporting.outcome import REPORT, write

    networks, images = models_and_data(models, options)
    tree = analyse({name: net.to(device) if device else net for name, net in networks.items()}, images, **options)
    write(tree, out)
    show(tree, Path(out) / REPORT)

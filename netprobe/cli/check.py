"""`netprobe check`: silent mistakes, before they cost a day."""

from __future__ import annotations

import sys
from typing import Any

import click

from netprobe.cli.models import FORM, LOADING, loaded
from netprobe.cli.options import data_flags, errors_as_usage, inputs, model_flags, named_perturbations, perturb_flag

CHECKED = 256
"""Images that are looked at, unless told how many."""


@click.command(help=f"Look for silent mistakes before they cost a day.\n\n{FORM}")
@click.argument("model")
@model_flags
@data_flags
@perturb_flag
@click.option("--seed", default=0, show_default=True)
@errors_as_usage
def check(model: str, perturbations: tuple, seed: int, **options: Any) -> None:
    from netprobe import perturb
    from netprobe.preflight import check as look

    (network,) = loaded([model], {key: options.pop(key) for key in LOADING}).values()
    limited, images = options["limit"], inputs(options, seed)
    images = images if limited else images.take(min(CHECKED, len(images)), seed)
    named = named_perturbations(perturbations) if perturbations else {}
    findings = look(network, images, {name: perturb.resolve(p) for name, p in named.items()}, seed=seed)
    click.echo(findings)
    sys.exit(int(any(finding.severity == "error" for finding in findings)))

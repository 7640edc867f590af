"""`netprobe layers`: where one can listen."""

from __future__ import annotations

from typing import Any

import click

from netprobe.cli.models import FORM, loaded
from netprobe.cli.options import errors_as_usage, input_shape, model_flags
from netprobe.cli.showing import columns


@click.command(help=f"List where one can listen: index, name, type, shape, parameters, multiply-adds.\n\n{FORM}")
@click.argument("model")
@model_flags
@click.option("--input", "shape", default="3,224,224", show_default=True, help="shape of one input")
@click.option("--sites", default="all", show_default=True, help="only these, by pattern")
@errors_as_usage
def layers(model: str, shape: str, sites: str, **loading: Any) -> None:
    import torch

    from netprobe.sites import find_sites, select

    size = input_shape(shape)
    (network,) = loaded([model], loading).values()
    found = find_sites(network, torch.full((1, *size), 0.5), macs=True)
    rows = [("", "site", "type", "shape", "parameters", "multiply-adds")]
    for site in select(found, sites):
        shown = "x".join(map(str, site.shape)) or "1"
        rows.append((str(site.order), site.name, site.kind, shown, f"{site.parameters:,}", f"{site.macs:,}"))
    click.echo(columns(rows, right=(0, 4, 5)))

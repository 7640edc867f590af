"""`netprobe demo`: see it work."""

from __future__ import annotations

from pathlib import Path

import click

from netprobe.cli.options import errors_as_usage


@click.command()
@click.option("-o", "--out", default="runs/demo", show_default=True, help="folder for results, figures and report")
@click.option("--seed", default=0, show_default=True, help="seed of initial weights, batches and noise")
@errors_as_usage
def demo(out: str, seed: int) -> None:
    """Train two small networks on scikit-learn's digits, naturally and adversarially, and compare them."""
    from netprobe.demo import demo as run
    from netprobe.reporting.verdict import verdict

    tree = run(out, seed)
    click.echo(f"\n{verdict(tree)}\n\nreport: {Path(out) / 'report.html'}")

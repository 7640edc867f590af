"""`netprobe report`, `seeds` and `merge`: what becomes of results that are there."""

from __future__ import annotations

from pathlib import Path

import click

from netprobe.cli.options import errors_as_usage
from netprobe.cli.showing import show


@click.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--out", help="folder for report.html and figures; by default that of RESULTS")
@errors_as_usage
def report(results: str, out: str | None) -> None:
    """Draw the figures and the report of a results.nc again."""
    from netprobe.reporting.outcome import draw
    from netprobe.store import open_results

    click.echo(draw(open_results(results), out or Path(results).parent))


@click.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--out", help="folder for results, figures and report; by default `seeds` beside RESULTS")
@errors_as_usage
def seeds(results: str, out: str | None) -> None:
    """Average the models of a results.nc over seeds: NAME-0, NAME-1, ... become one, NAME.

    Intervals are then t intervals over trainings, and groups are compared with each other.

    \b
    netprobe evaluate plain-0=a.pt plain-1=b.pt similar-0=c.pt similar-1=d.pt --data cifar10 -o out/
    netprobe seeds out/results.nc
    """
    from netprobe.reporting.outcome import REPORT, write
    from netprobe.seeds import over_seeds
    from netprobe.store import open_results

    tree, folder = over_seeds(open_results(results)), Path(out or Path(results).parent / "seeds")
    write(tree, folder)
    show(tree, folder / REPORT)


@click.command()
@click.argument("parts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--out", default="runs/merged", show_default=True, help="folder for results.nc")
@errors_as_usage
def merge(parts: tuple[str, ...], out: str) -> None:
    """Join the partial.pt files of shards (probe --shard i/n), exactly."""
    from netprobe.probing.probe import merge as join
    from netprobe.store import save_results

    tree = join(parts).compute()
    save_results(tree, Path(out) / "results.nc")
    show(tree, Path(out) / "results.nc")

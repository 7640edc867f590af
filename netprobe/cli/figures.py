"""`netprobe figures`, and the command line of a single script."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from netprobe.cli.options import errors_as_usage

OUT = "runs/figures"


def run_script(shown: Any, otherwise: Callable[[], Any] | None = None) -> None:
    """What the script of a figure or table does: --run makes results, without it they are read from where they are.

    `otherwise` is what it does for a command line with neither --run nor --results.
    """
    if otherwise is not None and not any(word.split("=")[0] in ("--run", "--results") for word in sys.argv[1:]):
        otherwise()
        return
    _command(shown)()


def _command(shown: Any) -> click.Command:
    @click.command(help=as_help(shown.doc))
    @click.option("--run", is_flag=True, help="Make the results that are not there yet: train, and measure.")
    @click.option("--scale", type=click.Choice(list(shown.study.scales)), help="Of the study; smoke takes seconds.")
    @click.option("--results", type=click.Path(path_type=Path), help="Folder of results; by default OUT/results.")
    @click.option("-o", "--out", default=OUT, show_default=True, type=click.Path(path_type=Path))
    @errors_as_usage
    def command(run: bool, scale: str | None, results: Path | None, out: Path) -> None:
        from netprobe.gallery.figure import RESULTS, shown_text

        folder = results or out / RESULTS
        study = shown.study(scale or _scale(shown.study, folder, run), folder, run=run)
        written = shown.make(study, out)
        for table in (path for path in written if path.suffix == ".md"):
            click.echo(shown_text(table))
        click.echo("written: " + ", ".join(map(str, written)))

    return command


def as_help(text: str) -> str:
    """A docstring as the help of a command: indented parts keep their lines."""
    return text.replace("\n\n    ", "\n\n\b\n    ")


def _scale(study: Any, folder: Path, run: bool) -> str:
    """The largest scale that there are results of; of those to be made, the smallest."""
    from netprobe.errors import MissingData

    if run:
        return next(iter(study.scales))
    there = study.found(folder)
    if not there:
        raise MissingData(f"no results of {study.name} in {str(folder)!r}: make them with --run --scale smoke")
    return there[-1]


@click.command(
    help="Make all figures and tables of a folder of scripts, and a page of them.\n\n"
    "Results are made once for all scripts of a study, and kept: the same command goes on from there. Written are PDF "
    "and PNG of every figure, every table, index.html with all of them, and what was skipped and why.\n\n"
    "\b\n"
    "netprobe figures --scale smoke                    all, on scikit-learn's digits, in minutes\n"
    "netprobe figures --only 'sca_*' -o out/           those of one work\n"
    "netprobe figures --no-run --results figures/results --scale paper"
)
@click.option("--scale", default="smoke", show_default=True, help="smoke, reduced, or paper: the works' schedules")
@click.option("--only", default="*", show_default=True, metavar="PATTERN", help="scripts by name, such as 'diss_tab_*'")
@click.option("--folder", default="figures", show_default=True, help="folder of scripts")
@click.option("--run/--no-run", default=True, show_default=True, help="make results that are not there yet")
@click.option("--results", help="folder of results; by default OUT/results")
@click.option(
    "--index", is_flag=True, help="make nothing, and bring the list in FOLDER/README.md up to date with what is in OUT"
)
@click.option("-o", "--out", default=OUT, show_default=True, help="folder for figures, tables and index.html")
@errors_as_usage
def figures(scale: str, only: str, folder: str, run: bool, results: str | None, index: bool, out: str) -> None:
    from netprobe.gallery import make_all, write_index
    from netprobe.gallery.thumbnails import MADE

    if index:
        made = (Path(out) / MADE).exists()
        click.echo(f"written: {write_index(folder, out if made else None)}")
        click.echo(f"with what was made in {out}" if made else f"nothing new: no figures were made in {out}")
        return
    made = make_all(folder, scale, out, only=only, run=run, results=results)
    for each in made:
        if each.skipped:
            click.echo(f"skipped {each.shown.name}: {each.skipped}")
    done = sum(not each.skipped for each in made)
    click.echo(f"{done} of {len(made)} made in {sum(each.seconds for each in made):.0f} s: {Path(out) / 'index.html'}")

"""What verbs print at their end."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

import click


def show(tree: Any, written: Path) -> None:
    """The verdict on results, and where they are."""
    from netprobe.reporting.verdict import verdict

    click.echo(f"\n{verdict(tree)}\n\nwritten: {written}")


def columns(rows: list[tuple[str, ...]], right: Container[int] = ()) -> str:
    """Rows of cells as lines of equal columns; those in `right` are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = [str.rjust if i in right else str.ljust for i in range(len(widths))]
    return "\n".join(
        "  ".join(p(cell, w) for p, cell, w in zip(pad, row, widths, strict=True)).rstrip() for row in rows
    )

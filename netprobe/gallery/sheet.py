"""The page of all figures and tables, small, with what was skipped: one file, works offline."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from netprobe.gallery.figure import shown_text
from netprobe.gallery.thumbnails import small
from netprobe.store import atomically, versions

if TYPE_CHECKING:
    from netprobe.gallery.making import Made

ACROSS, COLOURS = 640, 64
"""Pixels and colours of a picture on the page."""


def write_sheet(made: list[Made], out: str | Path) -> Path:
    """Write `out`/index.html."""
    folder = Path(__file__).parent
    page = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    text = page.get_template("sheet.html").render(every=[_entry(each) for each in made], versions=versions())
    return atomically(Path(out) / "index.html", lambda part: part.write_text(text))


def _entry(made: Made) -> dict[str, Any]:
    pictures = [_thumbnail(path) for path in made.files if path.suffix == ".png"]
    tables = [shown_text(path).partition("\n\n")[2] for path in made.files if path.suffix == ".md"]
    links = [path.name for path in made.files]
    return {"made": made, "shown": made.shown, "pictures": pictures, "tables": tables, "links": links}


def _thumbnail(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(small(path, ACROSS, COLOURS)).decode()

"""The index of a folder of scripts, as Markdown: what each shows, and at which scales there are results of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from netprobe.gallery.figure import RESULTS, Shown
from netprobe.gallery.making import natural, scripts_in
from netprobe.store import atomically

BEGIN, END = "<!-- index -->", "<!-- end of index -->"
README = "README.md"


def index(folder: str | Path) -> str:
    """A table, a row a script: figure, what it shows, script, study, status.

    The status is "smoke", which every study has, and each scale of which there are results in `folder`/results.
    """
    rows = [_row(shown, Path(folder) / RESULTS) for shown in _sorted(scripts_in(folder))]
    return "\n".join(["| | shows | script | study | status |", "|---|---|---|---|---|", *rows])


def write_index(folder: str | Path) -> Path:
    """Put the index into `folder`/README.md, between its two marks. Returns the path."""
    path = Path(folder) / README
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{before}{BEGIN}\n{index(folder)}\n{END}{after}"
    return atomically(path, lambda part: part.write_text(text))


def _row(shown: Shown, results: Path) -> str:
    status = ", ".join(dict.fromkeys(["smoke", *shown.study.found(results)]))
    return f"| {shown.title} | {shown.caption} | `{shown.name}.py` | {shown.study.name} | {status} |"


def _sorted(every: Iterable[Shown]) -> list[Shown]:
    return sorted(every, key=lambda shown: natural(shown.name))

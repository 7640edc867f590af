"""The index of a folder of scripts, as Markdown: what each shows, how it is made, and how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from netprobe.gallery.figure import Shown
from netprobe.gallery.making import natural, scripts_in
from netprobe.gallery.thumbnails import THUMBNAILS, remember, remembered
from netprobe.store import atomically

BEGIN, END = "<!-- index -->", "<!-- end of index -->"
README = "README.md"
HEAD = ("", "shows", "script", "command", "seconds", "status", "thumbnail")


def index(folder: str | Path) -> str:
    """A table, a row a script: figure, what it shows, script and study, command, seconds, status, thumbnail.

    Seconds of one core at each scale that it was made at, the status all of these scales, and the thumbnail of the
    largest: as `folder`/thumbnails says, and nothing else.
    """
    known = remembered(Path(folder))
    rows = [_row(shown, known.get(shown.name, {}), Path(folder)) for shown in _sorted(scripts_in(folder))]
    return "\n".join([_line(HEAD), "|" + "---|" * len(HEAD), *rows])


def write_index(folder: str | Path, out: str | Path | None = None) -> Path:
    """Put the index into `folder`/README.md, between its two marks; with `out`, after its thumbnails and seconds have
    been brought up to date with what was made there. Returns the path.
    """
    if out is not None:
        remember(scripts_in(folder), Path(folder), Path(out))
    path = Path(folder) / README
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{before}{BEGIN}\n{index(folder)}\n{END}{after}"
    return atomically(path, lambda part: part.write_text(text))


def _row(shown: Shown, known: Mapping[str, Any], folder: Path) -> str:
    seconds = {name: known["seconds"][name] for name in shown.study.scales if name in known.get("seconds", {})}
    spent = [f"{name} {taken:.0f}" for name, taken in seconds.items() if taken is not None]
    script, picture = f"{shown.name}.py", f"{THUMBNAILS}/{shown.name}.png"
    seen = f"![{shown.title}]({picture})" if (folder / picture).exists() else ""
    cells = (
        *(shown.title, shown.caption, f"[{shown.name}]({script}), study {shown.study.name}"),
        *(f"`python figures/{script} --run`", ", ".join(spent), ", ".join(seconds) or "not yet", seen),
    )
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _sorted(every: Iterable[Shown]) -> list[Shown]:
    return sorted(every, key=lambda shown: natural(shown.name))

"""What a folder of scripts keeps of how its figures were last made: small pictures, scales and times.

THUMBNAILS/NAME.png is the script's first picture, of the largest scale that it was drawn at; THUMBNAILS/made.json says
by name which scale that is ("drawn"), and for every scale how many seconds of one core it took ("seconds"; missing
where results were there already). Both are small enough to be committed, and the index is made from them alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from netprobe.errors import MissingData
from netprobe.store import atomically

if TYPE_CHECKING:
    from netprobe.gallery.figure import Shown
    from netprobe.gallery.making import Made

THUMBNAILS, MADE = "thumbnails", "made.json"
ACROSS, COLOURS = 200, 32


def small(picture: Path, across: int, colours: int) -> bytes:
    """A PNG file as a PNG of at most so many pixels across and so many colours; the same bytes every time."""
    with Image.open(picture) as whole:
        shown = whole.convert("RGB")
        shown.thumbnail((across, 3 * across))
    stream = io.BytesIO()
    shown.quantize(colours).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def write_made(made: Iterable[Made], out: Path) -> None:
    """Add to OUT/made.json what was made, which `remember` reads."""
    about = _read(out / MADE)
    for each in made:
        if not each.skipped:
            pictures = [path.name for path in each.files if path.suffix == ".png"]
            said = {
                "scale": each.scale,
                "pictures": pictures,
                "seconds": round(each.seconds, 1) if each.fresh else None,
            }
            about[each.shown.name] = said
    _write(about, out / MADE)


def remember(scripts: Iterable[Shown], folder: Path, out: Path) -> None:
    """Bring the thumbnails of `folder` up to date with what was made in `out`."""
    if not (out / MADE).exists():
        raise MissingData(f"no {str(out / MADE)!r}: make figures first, netprobe figures -o {out}")
    made, known = _read(out / MADE), remembered(folder)
    for shown in scripts:
        if shown.name in made:
            known[shown.name] = _updated(shown, known.get(shown.name), made[shown.name], folder, out)
    _write(known, folder / THUMBNAILS / MADE)


def remembered(folder: Path) -> dict[str, Any]:
    """What is known of scripts by name: "drawn", the scale of the thumbnail, and "seconds" by scale."""
    return _read(folder / THUMBNAILS / MADE)


def _updated(
    shown: Shown, before: Mapping[str, Any] | None, made: Mapping[str, Any], folder: Path, out: Path
) -> dict[str, Any]:
    scale, order = made["scale"], list(shown.study.scales)
    seconds = dict(before["seconds"]) if before else {}
    if made["seconds"] is not None or scale not in seconds:
        seconds[scale] = made["seconds"]
    seconds = {name: seconds[name] for name in order if name in seconds}
    if made["pictures"] and scale == list(seconds)[-1]:
        picture = small(out / made["pictures"][0], ACROSS, COLOURS)
        atomically(folder / THUMBNAILS / f"{shown.name}.png", lambda part: part.write_bytes(picture))
    return {"drawn": list(seconds)[-1], "seconds": seconds}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write(about: Mapping[str, Any], path: Path) -> None:
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    atomically(path, lambda part: part.write_text(text))

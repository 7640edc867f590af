"""All figures and tables of a folder of scripts, made one after the other from studies that they share."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from netprobe.errors import MissingData, MissingLibrary, NetprobeError, unknown
from netprobe.gallery.figure import RESULTS, Shown
from netprobe.gallery.sheet import write_sheet
from netprobe.gallery.study import Study
from netprobe.gallery.thumbnails import write_made

DECLARED = ("FIGURE", "TABLE")
"""What a script calls what it declares."""


@dataclass
class Made:
    """What became of a script: its files, or why it was skipped; and the seconds of one core that it took.

    Trainings and results that scripts share count with the first that needs them. `fresh`: its study began with
    nothing, so that the seconds tell what it takes.
    """

    shown: Shown
    scale: str
    files: list[Path] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0
    fresh: bool = False


def scripts_in(folder: str | Path, only: str = "*") -> list[Shown]:
    """What the scripts of a folder declare, by name; scripts that declare nothing are left out."""
    if not Path(folder).is_dir():
        raise MissingData(f"no folder {str(folder)!r} of scripts: run this in a checkout of netprobe, or name --folder")
    with _importable(Path(folder)):
        modules = (_imported(path) for path in sorted(Path(folder).glob("*.py")))
        every = [getattr(module, name) for module in modules for name in DECLARED if hasattr(module, name)]
    chosen = [each for each in every if fnmatch.fnmatch(each.name, only)]
    if not chosen:
        raise unknown("scripts", only, [each.name for each in every], f"A pattern for names in {str(folder)!r}.")
    return chosen


def make_all(
    folder: str | Path,
    scale: str,
    out: str | Path,
    *,
    only: str = "*",
    run: bool = True,
    results: str | Path | None = None,
    progress: bool = True,
) -> list[Made]:
    """Make every figure and table that the scripts of `folder` declare, and `out`/index.html, a page of them.

    Scripts whose data or optional library is not there are skipped, and say so; so are those whose study has no such
    scale and, with run=False, those without results. Any other error ends the work. Scripts of one study follow each
    other, and share its results. `out`/made.json says what was made, for the index (`thumbnails`).
    """
    every = sorted(scripts_in(folder, only), key=lambda shown: shown.study.name)
    _check(every, scale)
    made = []
    with tqdm(every, unit="figure", disable=not progress) as bar:
        for study, scripts in itertools.groupby(bar, key=lambda shown: shown.study):
            made += _made_of(study, scripts, scale, results or Path(out) / RESULTS, out, run, bar)
            write_made(made, Path(out))
    made.sort(key=lambda each: natural(each.shown.name))
    write_sheet(made, out)
    return made


def _made_of(
    kind: type[Study],
    scripts: Iterable[Shown],
    scale: str,
    results: str | Path,
    out: str | Path,
    run: bool,
    bar: tqdm,
) -> list[Made]:
    """What became of the scripts of one study."""
    if scale not in kind.scales:
        return [Made(shown, scale, skipped=f"the study {kind.name} has no scale {scale}") for shown in scripts]
    study, made = kind(scale, results, run=run, progress=False), []
    fresh = run and not study.folder.exists()
    for shown in scripts:
        bar.set_description(shown.name)
        made.append(_make(shown, study, out))
        made[-1].fresh = fresh
    return made


def _make(shown: Shown, study: Study, out: str | Path) -> Made:
    began, made = time.process_time(), Made(shown, study.scale)
    study.used = {}
    try:
        made.files = shown.make(study, out)
    except (MissingData, MissingLibrary) as missing:
        made.skipped = str(missing)
    except NetprobeError as error:
        raise NetprobeError(f"{shown.name}: {error}") from error
    made.seconds = time.process_time() - began
    return made


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by size: diss_fig_3_9 before diss_fig_3_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split("_")]


def _check(every: Sequence[Shown], scale: str) -> None:
    """An error for a scale that no study has."""
    scales = list(dict.fromkeys(each for shown in every for each in shown.study.scales))
    if scale not in scales:
        raise unknown("scale of these scripts", scale, scales)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Inside, scripts find the modules beside them, as they do when they are run."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))


def _imported(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

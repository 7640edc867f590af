"""Where data sets lie, and what to say when one does not lie there."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from netprobe.errors import MissingData, NetprobeError

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    AssertionError,
    LookupError,
    TypeError,
    pickle.UnpicklingError,
)


def data_root(root: str | Path | None = None) -> Path:
    """The folder of data sets: `root`, else $NETPROBE_DATA, else ~/.cache/netprobe."""
    return Path(root or os.environ.get("NETPROBE_DATA") or "~/.cache/netprobe").expanduser()


def missing(name: str, absent: Iterable[str], folder: Path, root: Path, remedy: str) -> MissingData:
    """The error for a set of which the files `absent` are not in `folder`: raise what this returns."""
    similar = [repr(p.name) for p in sorted(root.glob(f"{name}*")) if p.is_dir() and p != folder]
    note = f" What is there is {', '.join(similar)}: another set, to be asked for by that name." if similar else ""
    return MissingData(
        f"data set {name!r} is missing: no {', '.join(absent)} in {folder}. {remedy}; if you have it "
        f"elsewhere, set root= or the environment variable NETPROBE_DATA.{note}"
    )


def downloadable(name: str, megabytes: int) -> str:
    """How to get a set that torchvision can download."""
    return f"load({name!r}, download=True) lets torchvision fetch it there ({megabytes:,} MB)"


@contextmanager
def explained(name: str, folder: Path) -> Iterator[None]:
    """Turn what reading or downloading raises into an error naming the set, the folder and the remedy."""
    try:
        yield
    except NetprobeError:
        raise
    except DAMAGE as error:
        reason = str(error) or "its files contradict each other"
        raise MissingData(
            f"data set {name!r} in {folder} is damaged or could not be fetched ({reason}): "
            f"delete that folder and fetch it again with load({name!r}, download=True)"
        ) from error

"""Who computes what, among processes that share a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: processes may then compute a cell twice, and the last one's equal result stands
    fcntl = None


@contextlib.contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether this process alone has `path` inside the `with`; never waits.

    A lock of the operating system on the file: it ends with the process, also by kill -9, on every machine that mounts
    the folder. The empty file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        yield _locked(file)


def _locked(file) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""Files that are there whole or not at all, and folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netprobe.errors import NetprobeError


def atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` make a file beside `path`, then put it in place in one step: readers see the old or the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def made_folder(path: str | Path) -> Path:
    """The folder at `path`, made if there is none; NetprobeError if it cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NetprobeError(f"cannot keep results in {str(path)!r}: {error}") from error
    return Path(path)

"""What a long piece of work has so far, in a file, so that it goes on after a kill."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from netprobe.errors import CheckpointError
from netprobe.models.reading import read
from netprobe.store.files import atomically


class Scratch:
    """A place for one state of tensors and plain values; without a `path` it keeps nothing.

    key : tells this work from any other; a state of other work in the same place is an error.
    every : seconds between states, for those that ask whether one is `due`.
    writes : whether this process is the one that writes; all may read.
    """

    def __init__(self, path: Path | None = None, key: str = "", every: float = 300.0, writes: bool = True) -> None:
        self.path, self.key, self.every, self.writes = path, key, every, writes
        self._written_at = time.monotonic()

    @property
    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self._written_at >= self.every

    def read(self) -> dict[str, Any] | None:
        """The last state that was written, of this process or of one that was killed; None if there is none."""
        if self.path is None or not self.path.exists():
            return None
        contents = read(self.path)
        if contents["key"] != self.key:
            raise CheckpointError(
                f"{self.path} is of another training, with other settings, data or weights: give another folder, or "
                "delete that file"
            )
        return contents["state"]

    def write(self, state: dict[str, Any]) -> None:
        """Keep `state` in place of the one before; a kill at any moment leaves one or the other."""
        if self.path is not None and self.writes:
            contents = {"key": self.key, "state": state}
            atomically(self.path, lambda part: torch.save(contents, part))
        self._written_at = time.monotonic()

    def forget(self) -> None:
        """The work is done, and its result is kept elsewhere."""
        if self.path is not None and self.writes:
            self.path.unlink(missing_ok=True)

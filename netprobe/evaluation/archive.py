"""Where finished units of work are kept: a file each, written in one step, or memory."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from netprobe.errors import NetprobeError
from netprobe.evaluation.outcomes import BLANKS, Outcome
from netprobe.fourier.spectra import FourierSpectrum
from netprobe.store import atomically

logger = logging.getLogger(__name__)

UNITS = "units"
OF_SPECTRUM = "spectrum_"


class Archive:
    """Outcomes by key: files `folder/units/<key>.npz`, or, without a folder, in memory.

    A file appears wholly or not at all, whenever the process is killed; one that cannot be read counts as not there.
    Processes may share a folder: units of equal keys hold equal outcomes.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder) / UNITS
        self.held: dict[str, Outcome] = {}

    def prepare(self) -> None:
        """Make the folder, and clear away what killed processes left half written."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for part in self.folder.glob(".*.part*"):
                if not _running(part):
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise NetprobeError(f"cannot keep results in {str(self.folder)!r}: {error}") from error

    def get(self, key: str) -> Outcome | None:
        if key not in self.held and self.folder is not None and self._path(key).is_file():
            self._read(key)
        return self.held.get(key)

    def put(self, key: str, outcome: Outcome) -> None:
        if self.folder is not None:
            atomically(self._path(key), lambda part: _write(part, outcome))
        self.held[key] = outcome

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _read(self, key: str) -> None:
        try:
            with self._path(key).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                values = {name: stored[name] for name in BLANKS}
                self.held[key] = Outcome(values, float(stored["seconds"]), _spectrum(stored))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s) and is computed again", self._path(key), error)
            self._path(key).unlink(missing_ok=True)


def _running(part: Path) -> bool:
    """Whether the process that writes this part, whose number its name ends in, is still there."""
    try:
        os.kill(int(part.suffix.removeprefix(".part")), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _spectrum(stored: Mapping[str, np.ndarray]) -> FourierSpectrum | None:
    arrays = {name.removeprefix(OF_SPECTRUM): stored[name] for name in stored if name.startswith(OF_SPECTRUM)}
    return FourierSpectrum.of_arrays(arrays) if arrays else None


def _write(path: Path, outcome: Outcome) -> None:
    arrays = {} if outcome.spectrum is None else outcome.spectrum.arrays()
    more = {f"{OF_SPECTRUM}{name}": array for name, array in arrays.items()}
    with path.open("wb") as file:
        np.savez(file, seconds=np.float64(outcome.seconds), **outcome.values, **more)

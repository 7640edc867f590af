"""Folders that hold one folder a class: which parts, classes and files they have."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netprobe.data.source import SPLITS, choose_split
from netprobe.errors import MissingData, NetprobeError

logger = logging.getLogger(__name__)

LAYOUT = "a set is one folder a class, FOLDER/CLASS/FILE or FOLDER/train/CLASS/FILE with FOLDER/test/CLASS/FILE"
NOT_CLASSES = ("_background_noise_", "__MACOSX")


@dataclass(frozen=True)
class Listing:
    """The files of one part of a folder, by class and then by file name, and the class index of each."""

    name: str
    split: str
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray


def list_folder(
    folder: Path,
    split: str | None,
    suffixes: Iterable[str],
    classes: Iterable[str] | None = None,
    name: str | None = None,
) -> Listing:
    """Every file of `split` whose suffix is one of `suffixes`, in a fixed order.

    Class indices follow the sorted names of the class folders of all parts together, as in torchvision's
    `ImageFolder` (so a class that one part lacks does not shift the others), or the order given by `classes`.
    Folders within class folders are not searched.
    """
    name = name or folder.resolve().name
    parts = parts_of(folder)
    chosen = choose_split(split, parts, name)
    found = tuple(sorted({klass.name for part in parts.values() for klass in subfolders(part)}))
    if not found:
        raise MissingData(f"{folder} has no class folders: {LAYOUT}")
    ordered = found if classes is None else _reordered(found, tuple(classes), name)
    members = {c: _files(parts[chosen] / c, suffixes) for c in ordered if (parts[chosen] / c).is_dir()}
    labels = np.repeat([ordered.index(c) for c in members], [len(files) for files in members.values()])
    return Listing(name, chosen, ordered, tuple(f for files in members.values() for f in files), labels)


def parts_of(folder: Path) -> dict[str, Path]:
    """The folder of each part, {"train": ..., "test": ...}; {"all": folder} when there are no parts.

    A folder called "train" that holds files directly is a class of trains, not a part.
    """
    children = subfolders(folder)
    parts = {c.name.lower(): c for c in children if c.name.lower() in SPLITS and subfolders(c)}
    return parts or {"all": folder}


def subfolders(folder: Path) -> list[Path]:
    """The folders that may be classes, sorted by name; hidden ones and recordings of noise are not."""
    children = (c for c in folder.iterdir() if not c.name.startswith(".") and c.name not in NOT_CLASSES)
    return sorted(c for c in children if c.is_dir())


def first_file(folder: Path, suffixes: Iterable[str]) -> Path | None:
    """Some file with one of these suffixes in a class folder of any part, or None."""
    for part in parts_of(folder).values():
        for klass in subfolders(part):
            for file in klass.iterdir():
                if file.suffix.lower() in suffixes:
                    return file
    return None


def _files(klass: Path, suffixes: Iterable[str]) -> list[Path]:
    visible = sorted(name for name in os.listdir(klass) if not name.startswith("."))
    kept = [name for name in visible if os.path.splitext(name)[1].lower() in suffixes]
    if not kept:
        raise MissingData(f"the class folder {klass} has no {'/'.join(suffixes)} file: add some, or remove the folder")
    if len(kept) < len(visible):
        other = min(set(visible) - set(kept))
        logger.warning("%s: %d of other types ignored, such as %s", klass, len(visible) - len(kept), other)
    return [klass / name for name in kept]


def _reordered(found: tuple[str, ...], wanted: tuple[str, ...], name: str) -> tuple[str, ...]:
    if sorted(wanted) != sorted(found):
        lacking, extra = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
        raise NetprobeError(
            f"classes= sets the order of the class folders of {name} and must name each once; "
            f"not named: {lacking}, not there: {extra}"
        )
    return wanted

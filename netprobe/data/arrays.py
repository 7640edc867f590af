"""Arrays and tensors, in memory or in .npy and .npz files."""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from netprobe.data.canonical import as_inputs, as_labels, class_names, layout_of
from netprobe.data.source import SPLITS, Source, choose_split
from netprobe.errors import MissingData, NetprobeError

INPUT_KEYS = ("x", "images", "inputs", "data")
LABEL_KEYS = ("y", "labels", "targets")
CLASS_KEYS = ("classes", "class_names")
DAMAGE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def open_pair(
    pair: Sequence[Any],
    split: str | None,
    *,
    layout: str | None = None,
    classes: Iterable[str] | None = None,
    name: str = "arrays",
) -> Source:
    """Inputs and labels: two tensors, arrays or paths of .npy files (only the samples kept are read).

    Parameters
    ----------
    pair : (x, y). x : images (N, C, H, W), (N, H, W, C) or (N, H, W), uint8 or float in [0, 1]; waveforms (N,
        L), int16 or float in [-1, 1]. y : (N,) or (N, 1) integers from 0.
    layout : one of "NCHW", "NHWC", "NHW", "NL". Without it numpy arrays of shape (N, H, W, C) are recognised
        when one, and only one, of dims 1 and 3 can be the channels (1 or 3). Tensors are NCHW, as everywhere
        in torch; one that looks like NHWC only is an error.
    classes : names in index order; default "0", "1", ...
    name : of the set.
    """
    x, y = (_opened(part) for part in pair)
    labels = as_labels(y)
    layout = layout_of(x, layout)
    if len(x) != len(labels):
        raise NetprobeError(f"{len(x)} inputs but {len(labels)} labels: they must pair up")
    names = class_names(labels, classes)
    part = choose_split(split, ("all",), name)
    # Indexing by positions copies, so the caller's array stays the caller's.
    return Source(name, part, labels, names, lambda index: as_inputs(x[index], layout))


def open_npz(
    path: Path,
    split: str | None,
    *,
    layout: str | None = None,
    classes: Iterable[str] | None = None,
    name: str | None = None,
) -> Source:
    """An .npz file of inputs and labels, such as Keras' mnist.npz or a MedMNIST file.

    Keys: x, images, inputs or data with y, labels or targets, alone or with a part before or behind
    (x_test, test_images); classes or class_names if it names them. Never unpickled. Options: see `open_pair`.
    """
    name = name or path.stem
    try:
        # Opened here because numpy leaves the file open when it turns out to be damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = _keys(archive.files, path)
            chosen = choose_split(split, keys, name)
            x, y = (archive[key] for key in keys[chosen])
            named = next((archive[key] for key in archive.files if key.lower() in CLASS_KEYS), None)
    except NetprobeError:
        raise
    except DAMAGE as error:
        raise _unreadable(path, error) from error
    if classes is None and named is not None:
        classes = map(str, named.tolist())
    source = open_pair((x, y), None, layout=layout, classes=classes, name=name)
    return Source(name, chosen, source.labels, source.classes, source.read)


def _opened(part: Any) -> Any:
    if not isinstance(part, str | Path):
        return part if isinstance(part, Tensor) else np.asarray(part)
    return open_npy(part, "give the .npy files of a pair as (inputs, labels)")


def open_npy(file: str | Path, remedy: str) -> np.ndarray:
    """The array in an .npy file, mapped from the disk and never unpickled; `remedy` is for one that is not there."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise MissingData(f"there is no file {path}: {remedy}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise _unreadable(path, error) from error


def _keys(files: Sequence[str], path: Path) -> dict[str, tuple[str, str]]:
    """The keys of the inputs and the labels of every part that has both; without parts, of "all"."""
    found = {}
    for part in ("all", *SPLITS):
        keys = [_matching(files, stems, part) for stems in (INPUT_KEYS, LABEL_KEYS)]
        if any(len(matches) > 1 for matches in keys):
            raise NetprobeError(f"{path} has several inputs or labels for {part!r} ({keys}): pass the pair (x, y)")
        if all(keys):
            found[part] = (keys[0][0], keys[1][0])
    if not found:
        raise NetprobeError(
            f"{path} has the keys {list(files)}; needed are inputs ({', '.join(INPUT_KEYS)}) and labels "
            f"({', '.join(LABEL_KEYS)}), alone or as x_test and y_test; or pass the pair (x, y)"
        )
    return found


def _matching(files: Sequence[str], stems: Sequence[str], part: str) -> list[str]:
    forms = stems if part == "all" else [f for s in stems for f in (f"{s}_{part}", f"{part}_{s}")]
    return [key for key, form in itertools.product(files, forms) if key.lower() == form]


def _unreadable(path: Path, error: Exception) -> MissingData:
    return MissingData(
        f"{path} cannot be read ({error}): it is damaged, or holds Python objects, which are never "
        "unpickled; save numeric arrays with numpy.save or numpy.savez"
    )

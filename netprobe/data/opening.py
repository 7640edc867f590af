"""From whatever a user calls a data set to the function that opens it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from netprobe.data import audio, images
from netprobe.data.arrays import open_npz, open_pair
from netprobe.data.corrupted import CORRUPTED
from netprobe.data.folders import LAYOUT, first_file, subfolders
from netprobe.data.named import NAMED
from netprobe.data.root import data_root
from netprobe.data.source import Source
from netprobe.data.wrapped import open_dataset, open_loader
from netprobe.errors import MissingData, NetprobeError, closest

Opener = Callable[..., Source]  # (split, **options)
ACCEPTED = (
    "a name, the path of a folder or an .npz file, a pair (x, y) of tensors, arrays or .npy paths, "
    "or a torch Dataset or DataLoader"
)


def open_source(what: Any, split: str | None, root: str | Path | None, options: Mapping[str, Any]) -> Source:
    """Find `what` and open it with those options; one that it does not know is an error."""
    opener = find(what, data_root(root))
    known = [p.name for p in inspect.signature(opener).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise NetprobeError(
                f"{option}= does not apply to {_called(what)}; what does: "
                f"{', '.join(closest(option, known)) or 'nothing'}"
            )
    return opener(split, **options)


def find(what: Any, root: Path) -> Opener:
    """The function that opens `what`, which may be any of `ACCEPTED`."""
    if isinstance(what, str) and what.partition(":")[0] in CORRUPTED:
        name, _, which = what.partition(":")
        return partial(CORRUPTED[name], root, which)
    if isinstance(what, str) and what in NAMED:
        return partial(NAMED[what], root)
    if isinstance(what, str | os.PathLike):
        return _path_opener(_locate(what, root))
    if isinstance(what, DataLoader):
        return partial(open_loader, what)
    if isinstance(what, tuple) and len(what) == 2:
        return partial(open_pair, what)
    if isinstance(what, Dataset):
        return partial(open_dataset, what)
    raise NetprobeError(f"cannot load data from a {type(what).__name__}: pass {ACCEPTED}")


def _locate(what: str | os.PathLike[str], root: Path) -> Path:
    """The folder or file; a bare name, a string without separators, is looked for in the data root first."""
    path = Path(what).expanduser()
    bare = isinstance(what, str) and what not in ("", "..") and what == path.name
    if bare and _holds_a_set(root / path):
        return root / path
    if what != "" and path.exists():
        return path
    if bare:
        raise _unknown_name(what, root)
    raise MissingData(f"there is no {str(what)!r} (looked for {path.absolute()}): pass {ACCEPTED}")


def _holds_a_set(folder: Path) -> bool:
    return folder.is_dir() and first_file(folder, (*images.SUFFIXES, *audio.SUFFIXES)) is not None


def _unknown_name(what: str, root: Path) -> MissingData:
    folders = [f.name for f in subfolders(root) if _holds_a_set(f)] if root.is_dir() else []
    choices = closest(what, [*NAMED, *CORRUPTED, *folders])
    return MissingData(
        f"unknown data set {what!r}: did you mean {choices[0]!r}? Known are {', '.join(choices)}. Otherwise "
        f"a folder of that name is looked for in the data root {root.absolute()} (root=, or the "
        f"environment variable NETPROBE_DATA) and in the working directory; {LAYOUT}"
    )


def _path_opener(path: Path) -> Opener:
    if path.is_file():
        return _file_opener(path)
    if first_file(path, images.SUFFIXES):
        return partial(images.open_images, path)
    if first_file(path, audio.SUFFIXES):
        return partial(audio.open_words, path)
    kinds = ", ".join((*images.SUFFIXES, *audio.SUFFIXES))
    raise MissingData(f"{path} has no images and no recordings ({kinds}) in class folders; {LAYOUT}")


def _file_opener(path: Path) -> Opener:
    if path.suffix.lower() == ".npz":
        return partial(open_npz, path)
    remedy = "('x.npy', 'y.npy'), with its labels" if path.suffix.lower() == ".npy" else ACCEPTED
    raise NetprobeError(f"the file {path} alone is not a data set: pass {remedy}")


def _called(what: Any) -> str:
    return repr(str(what)) if isinstance(what, str | os.PathLike) else f"a {type(what).__name__}"

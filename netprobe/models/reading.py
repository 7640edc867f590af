"""Reading the file of a checkpoint without executing anything that it says."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from netprobe.errors import CheckpointError, closest

#: The number that opens every file of torch.save before PyTorch 1.6, as its pickle spells it.
LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")

#: First bytes of files that get mistaken for checkpoints, and what to do about each.
FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer instead of the weights: run `git lfs pull` where it comes from",
    b"<!doctype": "a web page, not a checkpoint: the download failed; fetch the file itself",
    b"<html": "a web page, not a checkpoint: the download failed; fetch the file itself",
    b"\x89HDF": "an HDF5 file (Keras?): netprobe reads PyTorch state dicts and safetensors",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
}


def read(checkpoint: str | os.PathLike[str], unsafe: bool = False) -> object:
    """What the file holds, on the CPU: usually a dict of tensors, or of such dicts.

    safetensors by the file's suffix, anything else by `torch.load(weights_only=True)`, which builds tensors
    and plain containers and refuses everything that would run code. Only where it refuses, and only with
    `unsafe`, the file is unpickled in full, which runs whatever its author put there.
    """
    path = existing(checkpoint)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    _refuse_foreign(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise nearly anything
        wanted = _wanted_global(error)
        if wanted is None:
            raise _damaged(path, error) from error
        if not unsafe:
            raise CheckpointError(
                f"{path} holds more than tensors: reading it would run {wanted}, which its author chose. "
                "Either save only the state dict where the file comes from, "
                "torch.save(model.state_dict(), 'weights.pt'), or, if you trust its author with this machine, "
                "pass unsafe=True"
            ) from error
    return _unpickled(path)


def digest(path: Path) -> str:
    """SHA-256 of the file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def existing(checkpoint: str | os.PathLike[str]) -> Path:
    """The path of the file `checkpoint`; if there is none, the error names its neighbours."""
    if not isinstance(checkpoint, str | os.PathLike):
        raise CheckpointError(f"checkpoint={checkpoint!r} is not a path: give the file that holds the weights")
    if "://" in str(checkpoint):
        raise CheckpointError(f"{checkpoint} is an address: netprobe downloads no checkpoints, fetch it first")
    path = Path(checkpoint).expanduser()
    if path.is_file():
        return path
    folder = path if path.is_dir() else path.parent
    problem = "is a folder, not a checkpoint" if path.is_dir() else "does not exist"
    if not folder.is_dir():
        raise CheckpointError(f"{path} does not exist, nor does its folder (working folder: {Path.cwd()})")
    names = closest(path.name, (p.name for p in folder.iterdir() if p.is_file()), n=5)
    raise CheckpointError(f"{path} {problem}; files in {folder}: {', '.join(names) or 'none'}")


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        _refuse_foreign(path)  # only now: a sound file begins with its length, which may look like anything
        raise _damaged(path, error) from error


def _refuse_foreign(path: Path) -> None:
    """Raise for a file that is recognisably something else than what torch.save writes."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path} is empty: save or fetch it again")
    for magic, remedy in FOREIGN.items():
        if head.lstrip().lower().startswith(magic.lower()):
            raise CheckpointError(f"{path} is {remedy}")
    if head.startswith(b"\x80") and LEGACY_MAGIC not in head:
        raise CheckpointError(
            f"{path} was written by pickle, not by torch.save: where it comes from, torch.save its tensors"
        )
    if zipfile.is_zipfile(path):
        _refuse_foreign_archive(path)


def _refuse_foreign_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript archive, which has no Python modules to listen to. Save its weights, "
            "torch.save(torch.jit.load(path).state_dict(), 'weights.pt'), and name the architecture they belong to"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a zip archive that torch.save did not write (it holds {', '.join(names[:3])}, ...): "
            "give the file of a state dict"
        )


def _wanted_global(error: Exception) -> str | None:
    """The function or class that a refused file names; None if it was not refused but is damaged."""
    if not isinstance(error, pickle.UnpicklingError):
        return None
    named = re.search(r"GLOBAL ([\w.]+\w)|[Uu]nsupported class ([\w.]+\w)|got <class '([\w.]+)'>", str(error))
    return next(filter(None, named.groups()), None) if named else None


def _unpickled(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"{path} was pickled with code that is not here ({error}): run from the folder of that code, "
            "or save the state dict where the file comes from"
        ) from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    # Of torch's paragraphs of advice, the sentence that says what went wrong.
    reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().splitlines()[:1]
    said = ": ".join([type(error).__name__, *(sentence.split(". ")[0] for sentence in reason)])
    return CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is damaged or not a checkpoint ({said}): save or fetch it again"
    )

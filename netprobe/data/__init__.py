"""Data sets as tensors in [0, 1]: named sets, folders of images or words, arrays, torch Datasets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from netprobe.data.channels import with_channels
from netprobe.data.corrupted import CORRUPTED
from netprobe.data.dataset import Batch, Batches, Data
from netprobe.data.named import NAMED
from netprobe.data.opening import open_source
from netprobe.data.root import data_root
from netprobe.data.stratify import stratified
from netprobe.errors import NetprobeError

__all__ = ["NAMES", "Batch", "Batches", "Data", "data_root", "load", "stratified"]

NAMES = (*NAMED, *CORRUPTED)


def load(
    what: Any,
    split: str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    length: int | None = None,
    resample: int | None = None,
    layout: str | None = None,
    classes: Iterable[str] | None = None,
    name: str | None = None,
) -> Data:
    """Images in [0, 1], or waveforms in [-1, 1], with their labels, class names, name and content hash.

    Parameters
    ----------
    what : a name (`NAMES`; "digits" needs no files; "cifar10-c:fog@3" is fog of severity 3); the name of a
        folder in the data root, or the path of one, with one folder of images or wav files a class, in `train`
        and `test` folders or not; the path of an .npz file; a pair (x, y) of tensors, arrays or .npy paths; a
        torch Dataset or DataLoader; a `Data`, returned as it is.
    split : "train", "test", or what else the set has; "val", "valid" and "validation" are one, and "test"
        means it where there is no test part. Default: the held-out part, or "all" of a set without parts.
    limit : keep so many samples, every class its share, in their original order (see `stratified`); of folders only
        those are read.
    seed : of that choice.
    root : the data root; default the environment variable NETPROBE_DATA, else ~/.cache/netprobe.
    download : let torchvision fetch a named set that is missing.
    size : of folders of images, see `images.open_images`.
    channels : 1 (grey) or 3 (colour), of any images.
    length, resample : of folders of words, see `audio.open_words`.
    layout, classes, name : of arrays and torch Datasets, see `arrays.open_pair`; of folders, `classes` sets
        the order of the class folders. An option that does not apply to `what` is an error.

    Returns
    -------
    Data, on the CPU, 8-bit images stored as bytes; the same call gives the same content and `hash`.

    Raises
    ------
    MissingData, if the set is not there or damaged: what is missing, where it was looked for, how to get it.
    NetprobeError, if it holds what a model could not be given: values outside [0, 1], unequal sizes, labels
    that are not class indices, a `limit` above N, ...

    >>> import torch
    >>> import netprobe as npb
    >>> npb.data.load("digits", limit=100)
    Data('digits', split='test': 100 images of 1×8×8, 10 classes, hash fda21fb3)
    >>> npb.data.load((torch.rand(20, 3, 8, 8), torch.arange(20) % 4), name="noise").num_classes
    4
    """
    options = {"size": size, "length": length, "resample": resample, "layout": layout}
    options |= {"classes": classes, "name": name, "download": download or None}
    given = {key: value for key, value in options.items() if value is not None}
    if isinstance(what, Data):
        made = _again(what, split, limit, seed, given)
    else:
        made = open_source(what, split, root, given).load(limit, seed)
    return made if channels is None else with_channels(made, channels)


def _again(data: Data, split: str | None, limit: int | None, seed: int, options: dict[str, Any]) -> Data:
    if options:
        raise NetprobeError(f"the data is loaded already: {', '.join(options)} cannot apply any more")
    if split not in (None, data.split):
        raise NetprobeError(f"this data is the split {data.split!r} of {data.name}, not {split!r}: load that one")
    return data if limit is None else data.take(limit, seed)

"""The published arrays of common corruptions: CIFAR-10-C, CIFAR-100-C and ImageNet-C."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from netprobe.data.arrays import DAMAGE
from netprobe.data.canonical import as_inputs, as_labels, class_names
from netprobe.data.folders import list_folder, subfolders
from netprobe.data.images import SUFFIXES, image_source
from netprobe.data.root import missing
from netprobe.data.source import Source, choose_split
from netprobe.errors import MissingData, NetprobeError, unknown

SEVERITIES = (1, 2, 3, 4, 5)
LABELS = "labels.npy"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class CorruptedArrays:
    """A set of one .npy file a corruption; calling it with "fog@3" gives the `Source` of fog at severity 3.

    FOLDER/fog.npy holds (5 N, 32, 32, 3) bytes, the N images at severity 1, then at 2, ..., 5; FOLDER/labels.npy the
    5 N labels. Only the images that are kept are read.

    Parameters
    ----------
    name : ours. folder : below the data root. record : of zenodo.org, which has the files.
    classes : names in index order; empty for "0", "1", ...
    """

    name: str
    folder: str
    record: int
    classes: tuple[str, ...] = ()

    def __call__(self, root: Path, which: str, split: str | None, *, classes: Iterable[str] | None = None) -> Source:
        folder, part = root / self.folder, choose_split(split, ("test",), self.name)
        there = [f.stem for f in sorted(folder.glob("*.npy")) if f.name != LABELS]
        corruption, severity = _asked(self.name, which, there)
        absent = [file for file in (f"{corruption}.npy", LABELS) if not (folder / file).is_file()]
        if absent:
            raise _missing(self.name, absent, folder, root, there, self.record, f"{self.folder}.tar")
        images, labels = _read(folder / f"{corruption}.npy"), as_labels(_read(folder / LABELS))
        self._check(images, labels, folder / f"{corruption}.npy")
        count = len(images) // len(SEVERITIES)
        start = count * (severity - 1)
        names = class_names(labels, classes or self.classes or None)
        return Source(
            f"{self.name}:{corruption}@{severity}",
            part,
            labels[start : start + count],
            names,
            lambda index: as_inputs(images[start + index], "NHWC"),
        )

    def _check(self, images: np.ndarray, labels: np.ndarray, file: Path) -> None:
        whole = images.ndim == 4 and images.dtype == np.uint8 and len(images) % len(SEVERITIES) == 0
        if not whole or len(labels) != len(images):
            raise MissingData(
                f"{file} has {images.dtype} of shape {images.shape} and {len(labels)} labels, not bytes "
                "(5 N, H, W, 3), the N images at each of five severities, with 5 N labels: it is damaged, or not "
                f"{self.name}"
            )


def imagenet_c(root: Path, which: str, split: str | None, *, size: int | tuple[int, int] | None = None) -> Source:
    """ImageNet-C, 50,000 images of 224 x 224 pixels for each corruption and severity.

    ROOT/ImageNet-C/CORRUPTION/SEVERITY/CLASS/FILE; class folders are named by WordNet and sorted. `size` as in
    `images.open_images`.
    """
    folder, part = root / "ImageNet-C", choose_split(split, ("test",), "imagenet-c")
    there = [f.name for f in subfolders(folder)] if folder.is_dir() else []
    corruption, severity = _asked("imagenet-c", which, there)
    if not (folder / corruption / str(severity)).is_dir():
        archives = "blur.tar, digital.tar, extra.tar, noise.tar and weather.tar"
        raise _missing("imagenet-c", [f"{corruption}/{severity}"], folder, root, there, 2235448, archives)
    listing = list_folder(folder / corruption / str(severity), "all", SUFFIXES)
    return image_source(replace(listing, name=f"imagenet-c:{corruption}@{severity}", split=part), size=size)


CORRUPTED: dict[str, Callable[..., Source]] = {
    "cifar10-c": CorruptedArrays("cifar10-c", "CIFAR-10-C", 2535967, CIFAR10),
    "cifar100-c": CorruptedArrays("cifar100-c", "CIFAR-100-C", 3555552),
    "imagenet-c": imagenet_c,
}
"""Called as opener(root, "fog@3", split, **its own options)."""


def _asked(name: str, which: str, there: list[str]) -> tuple[str, int]:
    """Corruption and severity of "fog@3"."""
    found = re.fullmatch(r"(\w+)@(\w+)", which)
    if not found:
        choices = f"; there are {', '.join(there)}" if there else ""
        raise NetprobeError(f"{name} needs a corruption and a severity, for instance {name}:fog@3{choices}")
    corruption, severity = found.groups()
    if severity not in map(str, SEVERITIES):
        raise unknown(f"severity of {name}", severity, SEVERITIES)
    return corruption, int(severity)


def _missing(
    name: str, absent: list[str], folder: Path, root: Path, there: list[str], record: int, archives: str
) -> MissingData:
    remedy = f"netprobe does not download it: unpack {archives} of https://zenodo.org/records/{record} there"
    known = f" (corruptions there: {', '.join(there)})" if there else ""
    return missing(name, absent, folder, root, remedy + known)


def _read(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise MissingData(f"{file} cannot be read ({error}): it is damaged, fetch it again") from error

"""Data sets that torchvision reads, and downloads when it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from netprobe.data.canonical import as_inputs, as_labels, class_names
from netprobe.data.folders import list_folder
from netprobe.data.images import SUFFIXES, image_source
from netprobe.data.root import downloadable, explained, missing
from netprobe.data.source import Source, choose_split


@dataclass(frozen=True)
class Whole:
    """A set that torchvision reads whole into memory; calling it gives the `Source`.

    Parameters
    ----------
    name : ours. torchvision : the name of the class there.
    folder : where the files lie below the data root. files : those that each split needs.
    layout : of torchvision's array (see `arrays.open_pair`). megabytes : to download.
    numbered : classes are called "0", "1", ... instead of by torchvision's names.
    """

    name: str
    torchvision: str
    folder: str
    files: Mapping[str, tuple[str, ...]]
    layout: str
    megabytes: int
    numbered: bool = False

    def __call__(self, root: Path, split: str | None, *, download: bool = False) -> Source:
        chosen, folder = choose_split(split, self.files, self.name), root / self.folder
        absent = [file for file in self.files[chosen] if not (folder / file).exists()]
        if absent and not download:
            raise missing(self.name, absent, folder, root, downloadable(self.name, self.megabytes))
        with explained(self.name, folder):
            images, labels, names = self._read(root, chosen, download)
        return Source(self.name, chosen, labels, names, lambda index: as_inputs(images[index], self.layout))

    def _read(self, root: Path, split: str, download: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        dataset = self._build(root, split, download)
        images = np.asarray(dataset.data)
        labels = as_labels(dataset.labels if self.torchvision == "SVHN" else dataset.targets)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        return images, labels, class_names(labels, None if self.numbered else dataset.classes)

    def _build(self, root: Path, split: str, download: bool) -> Any:
        from torchvision import datasets

        build = getattr(datasets, self.torchvision)
        if self.torchvision == "SVHN":  # the only one that does not make a folder of its own
            return build(root / self.folder, split=split, download=download)
        return build(root, train=split == "train", download=download)


def imagenette(
    root: Path,
    split: str | None,
    *,
    size: int | tuple[int, int] | None = None,
    download: bool = False,
) -> Source:
    """Imagenette in full size: 9,469 training and 3,925 validation photographs of ten ImageNet classes.

    The photographs differ in size, so `size` is needed (see `images.open_images`). The smaller copies that
    exist are not this set: load them as folders, by their own names imagenette2-320 and imagenette2-160.
    """
    chosen, folder = choose_split(split, ("train", "val"), "imagenette"), root / "imagenette2"
    if not download and not (folder / chosen).is_dir():
        raise missing("imagenette", [chosen], folder, root, downloadable("imagenette", 1557))
    with explained("imagenette", folder):
        from torchvision.datasets import Imagenette

        names = tuple(synonyms[0] for synonyms in Imagenette(root, chosen, download=download).classes)
    listing = replace(list_folder(folder, chosen, SUFFIXES), name="imagenette", classes=names)
    return image_source(listing, size=size)

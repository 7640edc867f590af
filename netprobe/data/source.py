"""A data set that has been found but not yet read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netprobe.data.dataset import Data
from netprobe.data.stratify import stratified
from netprobe.errors import unknown

VALIDATION = ("val", "valid", "validation")
SPLITS = ("train", "test", *VALIDATION)


def unknown_rate(index: np.ndarray) -> None:
    """Images have no sample rate, and arrays do not tell theirs."""
    return None


@dataclass(frozen=True)
class Source:
    """Labels that are known and inputs that are read on demand, so that `limit` reads only what it keeps.

    Both functions take (n,) int64 positions. `read` returns those inputs as `Data.stored` wants them, a
    tensor that nobody else holds; `sample_rate` the rate in Hz that they share, or None.
    """

    name: str
    split: str
    labels: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[np.ndarray], Tensor]
    sample_rate: Callable[[np.ndarray], int | None] = unknown_rate

    def load(self, limit: int | None = None, seed: int = 0) -> Data:
        """All samples, or `limit` of them, every class keeping its share."""
        everything = np.arange(len(self.labels))
        return self.at(everything if limit is None else stratified(self.labels, limit, seed))

    def at(self, index: np.ndarray) -> Data:
        """The samples at these positions, (n,) int64."""
        stored, labels = self.read(index), torch.from_numpy(self.labels[index].astype(np.int64))
        return Data(stored, labels, self.classes, self.name, self.split, self.sample_rate(index))


def choose_split(split: str | None, available: Iterable[str], name: str) -> str:
    """Which of the parts that `name` has is meant by `split`.

    None means the held-out part, and all of a set without parts. "val", "valid" and "validation" are one
    name, and "test" means the validation part of a set that has no test part (ImageNet, Imagenette). A set
    without parts has the single part "all".
    """
    available = tuple(available)
    meant = {None: ("test", *VALIDATION, "all"), "test": ("test", *VALIDATION)}
    meant |= {spelling: (spelling, *VALIDATION) for spelling in VALIDATION}
    for candidate in meant.get(split, (split,)):
        if candidate in available:
            return candidate
    whole = f"{name} has no train and test parts: leave split out, or pass 'all'." if available == ("all",) else ""
    raise unknown(f"split of {name}", split or "test", available, whole)

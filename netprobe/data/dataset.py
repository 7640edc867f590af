"""Labelled inputs, held as compactly as their source and converted batch by batch."""

from __future__ import annotations

import hashlib
import html
import json
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from netprobe.data.checks import whole_number
from netprobe.data.stratify import stratified
from netprobe.errors import NetprobeError

FULL_SCALE = {torch.uint8: 255.0, torch.int16: 32768.0, torch.float32: 1.0}
HASHED_AT_ONCE = 2**22  # values; bounds the memory that hashing needs
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Batch(NamedTuple):
    """Inputs `x` (B, ...) float32 and labels `y` (B,) int64 on the device; `index` (B,) int64 on the CPU.

    `index` holds the positions of these samples in the data.
    """

    x: Tensor
    y: Tensor
    index: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """N labelled images (N, C, H, W) in [0, 1], or waveforms (N, L) in [-1, 1].

    Parameters
    ----------
    stored : uint8 (meaning stored / 255), int16 (meaning stored / 32768) or float32. Kept as it is, so that a
        set of 8-bit images takes a quarter of the memory of its float32 inputs. Never write to it.
    labels : (N,) int64, indices into `classes`. Never write to it.
    classes : the class names, in index order; some may have no sample.
    name, split : which data set, and which part of it, a result must name.
    sample_rate : of waveforms, in Hz, where known.

    Notes
    -----
    Everything that is handed out (`inputs`, batches) is a copy, so that an in-place operation cannot change
    the data behind `hash`.
    """

    stored: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    split: str = "all"
    sample_rate: int | None = None

    def __post_init__(self) -> None:
        if self.stored.ndim not in (2, 4) or self.stored.dtype not in FULL_SCALE or not self.stored.numel():
            raise NetprobeError(
                "inputs are images (N, C, H, W) or waveforms (N, L), at least one, of uint8, int16 or "
                f"float32; got {tuple(self.stored.shape)} of {self.stored.dtype}"
            )
        if self.labels.shape != (len(self.stored),) or self.labels.dtype != torch.int64:
            raise NetprobeError(
                f"{len(self.stored)} inputs need labels of shape ({len(self.stored)},) and dtype int64, "
                f"got {tuple(self.labels.shape)} of {self.labels.dtype}"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.num_classes:
            raise NetprobeError(
                f"labels must lie in 0..{self.num_classes - 1} ({self.num_classes} classes), these lie in {low}..{high}"
            )

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def inputs(self) -> Tensor:
        """All inputs, float32, a fresh tensor: (N, C, H, W) in [0, 1] or (N, L) in [-1, 1]."""
        return to_float(self.stored)

    @property
    def kind(self) -> str:
        """ "image" or "waveform"."""
        return "image" if self.stored.ndim == 4 else "waveform"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: (C, H, W) or (L,)."""
        return tuple(self.stored.shape[1:])

    @property
    def num_classes(self) -> int:
        """How many classes there are names for."""
        return len(self.classes)

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of what a model is given: shape, float32 values, labels and class names, in order.

        The values are hashed as the float32 numbers that batches hand out, -0 counting as 0, so the same
        content has the same hash whether it is stored as uint8, int16 or float32. `name` and `split` do not
        enter. Computed once (about 0.4 s for 10,000 CIFAR images); JPEG decoders of different versions may
        differ in a few pixels, and then so do the hashes.
        """
        digest = hashlib.sha256(json.dumps([tuple(self.stored.shape), self.classes]).encode())
        for chunk in self.stored.split(max(1, HASHED_AT_ONCE // self.stored[0].numel())):
            digest.update((to_float(chunk) + 0.0).numpy().astype("<f4", order="C", copy=False).data.cast("B"))
        digest.update(self.labels.numpy().astype("<i8", order="C", copy=False).data.cast("B"))
        return digest.hexdigest()

    def select(self, indices: Sequence[int] | Tensor) -> Data:
        """The samples at these positions, in this order, repeats allowed; or where an (N,) mask is true."""
        index = _positions(indices, len(self))
        return replace(self, stored=self.stored[index], labels=self.labels[index])

    def take(self, n: int, seed: int = 0) -> Data:
        """`n` samples in which every class keeps its share, in their original order (see `stratified`)."""
        return self.select(self.taken(n, seed))

    def taken(self, n: int, seed: int = 0) -> Tensor:
        """Which samples `take` gives, (N,) bool."""
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[torch.from_numpy(stratified(self.labels.numpy(), n, seed))] = True
        return mask

    def parted(self, n: int, seed: int = 0) -> tuple[Data, Data]:
        """What is left without the `n` samples that `take` gives, and those."""
        taken = self.taken(n, seed)
        return self.select(~taken), self.select(taken)

    def batches(self, batch_size: int, device: str | torch.device = "cpu") -> Batches:
        """The samples in order, `batch_size` at a time (the last batch may be smaller), on `device`."""
        return Batches(self, batch_size, device)

    def describe(self) -> dict[str, object]:
        """What a result must say about its data, as JSON can hold it."""
        return {
            "name": self.name,
            "split": self.split,
            "kind": self.kind,
            "samples": len(self),
            "shape": list(self.shape),
            "num_classes": self.num_classes,
            "sample_rate": self.sample_rate,
            "hash": self.hash,
        }

    def __repr__(self) -> str:
        size = "×".join(map(str, self.shape))
        return (
            f"Data({self.name!r}, split={self.split!r}: {len(self):,} {self.kind}s of {size}, "
            f"{self.num_classes} classes, hash {self.hash[:8]})"
        )

    def _repr_html_(self) -> str:
        facts = self.describe() | {"hash": self.hash[:16], "classes": reprlib.repr(list(self.classes))}
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>"
            for key, value in facts.items()
            if value is not None
        )
        return f"<table><caption>netprobe data</caption>{rows}</table>"


class Batches:
    """A pass over `data`: iterate as often as you like; `len` is the number of batches."""

    def __init__(self, data: Data, batch_size: int, device: str | torch.device = "cpu") -> None:
        self.data, self.device = data, torch.device(device)
        self.batch_size = whole_number(batch_size, "batch_size")

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for index in torch.arange(len(self.data)).split(self.batch_size):
            rows = slice(int(index[0]), int(index[-1]) + 1)
            # Moved before they are converted: 8-bit images cross to the device as bytes.
            x = to_float(self.data.stored[rows].to(self.device))
            yield Batch(x, self.data.labels[rows].to(self.device, copy=True), index)


def to_float(stored: Tensor) -> Tensor:
    """A float32 copy in input units, on the same device: stored / FULL_SCALE.

    The divisor is a tensor on that device because CUDA multiplies by the rounded reciprocal of a plain
    number, which would make inputs differ in the last bit between devices; it is made there, so that the host does
    not wait.
    """
    scale = torch.full((), FULL_SCALE[stored.dtype], dtype=torch.float32, device=stored.device)
    return stored.to(torch.float32, copy=True).div_(scale)


def _positions(indices: Sequence[int] | Tensor, n: int) -> Tensor:
    index = torch.as_tensor(indices)
    if index.dtype == torch.bool and index.shape == (n,):
        index = index.nonzero().flatten()
    fits = index.ndim == 1 and index.dtype in INTEGERS and index.numel() > 0
    if not fits or int(index.min()) < 0 or int(index.max()) >= n:
        raise NetprobeError(
            f"select needs at least one position from 0 to {n - 1}, or a mask of {n} booleans; "
            f"got {reprlib.repr(indices)}"
        )
    return index.long().cpu()

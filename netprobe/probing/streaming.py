"""Statistics that update batch by batch and merge exactly: any batching, order or sharding gives the same value."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor

from netprobe.probing import fused

CHUNK = 1 << 17
"""Elements handled at a time: 1 MiB in float64, about one core's second-level cache."""


def add_gram(lower: Tensor, rows: Tensor) -> None:
    """Add rows^T rows, `rows` (n, C) float64 and contiguous, to the lower triangle of `lower` (C, C).

    The upper triangle is left undefined: on the CPU BLAS's dsyrk computes one triangle only, in nearly half the time
    of a full product (torch offers no such routine).
    """
    if rows.device.type != "cpu":
        lower.addmm_(rows.T, rows)
        return
    # row-major rows are column-major rows^T to BLAS, and the upper triangle it fills is the tensor's lower one
    dsyrk(1.0, rows.numpy().T, beta=1.0, c=lower.numpy().T, overwrite_c=1)


def symmetric(lower: Tensor) -> Tensor:
    """The symmetric matrix with that lower triangle."""
    return lower.tril() + lower.tril(-1).T


class Moments:
    """Count, mean and covariance of rows x in R^C, accumulated in float64 around a provisional mean.

    state   count n,  shift m (the mean of the first rows seen),  total = sum (x - m),  scatter = sum (x - m)(x - m)^T
    mean    m + total / n
    covariance  (scatter - total total^T / n) / (n - 1)

    The shift keeps float64 accuracy for data far from zero; merging re-expresses one state around the other's shift, so
    merged and unmerged results agree to rounding. Cost: n C^2 multiply-adds, halved on the CPU by computing only one
    triangle (BLAS dsyrk); memory 8 (C^2 + 2 C) bytes.
    """

    def __init__(self, size: int, device: torch.device | str = "cpu", shift: Tensor | None = None) -> None:
        self.size = size
        self.count = 0
        self.shift = shift
        self.total = torch.zeros(size, dtype=torch.float64, device=device)
        self._lower = torch.zeros(size, size, dtype=torch.float64, device=device)

    def update(self, rows: Tensor) -> None:
        """Add `rows`, shape (n, C), any floating type and any strides."""
        if not len(rows):
            return
        if self.shift is None:
            self.shift = rows.mean(0, dtype=torch.float64)
        self.count += len(rows)
        step = max(1, 2 * CHUNK // self.size)
        buffer = torch.empty(min(step, len(rows)), self.size, dtype=torch.float64, device=rows.device)
        for start in range(0, len(rows), step):
            centred = buffer[: len(rows) - start]
            self._centre(rows[start : start + step], centred)
            add_gram(self._lower, centred)

    def _centre(self, rows: Tensor, out: Tensor) -> None:
        if fused.fits(rows):
            fused.centre(rows, self.shift, out, self.total)
        else:
            self.total += torch.sub(rows, self.shift, out=out).sum(0)

    @property
    def mean(self) -> Tensor:
        """Mean row, shape (C,); NaN before the first row."""
        return self.total / (self.count or np.nan) + (0 if self.shift is None else self.shift)

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, shape (C, C), symmetric; NaN for fewer than two rows."""
        n = self.count
        centred = torch.addr(self._lower, self.total, self.total, alpha=-1 / (n or np.nan))
        return symmetric(centred) / (n - 1 if n > 1 else np.nan)

    def merge(self, other: Moments) -> Moments:
        """Add what `other` has seen; `other` is unchanged. Returns self."""
        return self._combine(other, 1)

    def without(self, part: Moments) -> Moments:
        """The moments of all rows but those of `part`, which must be among them."""
        return Moments(self.size, self.total.device, self.shift).merge(self)._combine(part, -1)

    def _combine(self, other: Moments, sign: int) -> Moments:
        if not other.count:
            return self
        if self.shift is None:
            self.shift = other.shift
        self._lower.add_(other._lower, alpha=sign)
        self.total.add_(other.total, alpha=sign)
        self.count += sign * other.count
        if not torch.equal(self.shift, other.shift):  # re-express the other's sums around our shift
            gap = other.shift - self.shift
            cross = torch.outer(other.total, gap)
            self._lower.add_(cross + cross.T + other.count * torch.outer(gap, gap), alpha=sign)
            self.total.add_(gap, alpha=sign * other.count)
        return self

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, as tensors."""
        shift = {} if self.shift is None else {"shift": self.shift}
        return {"count": torch.tensor(self.count), "total": self.total, "lower": self._lower, **shift}

    @classmethod
    def restore(cls, state: dict[str, Tensor]) -> Moments:
        """The accumulator that `state()` described."""
        moments = cls(len(state["total"]), state["total"].device, state.get("shift"))
        moments.count = int(state["count"])
        moments.total, moments._lower = state["total"].clone(), state["lower"].clone()
        return moments


class ImageTable:
    """A few numbers per image, kept for every image: rows may come in any order and are returned by image index.

    Rows are copied into one growing block, on the device they come from (on the CPU by numpy, whose small copies cost
    less than torch's). Kept as they come, thousands of small tensors would each pin a piece of the heap between the
    large activations, and memory would grow with the number of images after all.
    """

    def __init__(self) -> None:
        self.count = 0
        self._images: np.ndarray = np.empty(0, dtype=np.int64)
        self._values: np.ndarray | Tensor = np.empty(0)

    def update(self, images: Tensor, values: Tensor) -> None:
        """Add `values`, shape (images, ...), for the data-set positions `images`."""
        rows = self._like_kept(values)
        end = self.count + len(rows)
        if end > len(self._images):
            self._grow(max(end, 2 * len(self._images), 256), rows)
        self._images[self.count : end] = images.numpy()
        self._values[self.count : end] = rows
        self.count = end

    def _like_kept(self, values: Tensor) -> np.ndarray | Tensor:
        """`values` as what is kept can take them; that moves to the device of the first values not on the CPU."""
        if values.device.type == "cpu":
            return values if isinstance(self._values, Tensor) else values.numpy()
        if not isinstance(self._values, Tensor):
            self._values = torch.from_numpy(self._values).to(values.dtype).to(values.device)
        return values

    def _grow(self, capacity: int, rows: np.ndarray | Tensor) -> None:
        images, values, shape = self._images[: self.count], self._values[: self.count], (capacity, *rows.shape[1:])
        self._images = np.empty(capacity, dtype=np.int64)
        like = values if isinstance(values, Tensor) else rows
        self._values = like.new_empty(shape) if isinstance(like, Tensor) else np.empty(shape, dtype=like.dtype)
        if self.count:
            self._images[: self.count], self._values[: self.count] = images, values

    def merge(self, other: ImageTable) -> ImageTable:
        """Add the images of `other`. Returns self."""
        if other.count:
            images, values = other.read()
            self.update(torch.from_numpy(images), torch.from_numpy(values))
        return self

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image indices in ascending order, and their values in float64, shape (image, ...)."""
        images, values = self._images[: self.count], torch.as_tensor(self._values[: self.count]).double().cpu().numpy()
        order = np.argsort(images, kind="stable")
        return images[order], values[order]

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, as tensors."""
        images, values = self.read()
        return {"images": torch.from_numpy(images), "values": torch.from_numpy(values)}

    @classmethod
    def restore(cls, state: dict[str, Tensor]) -> ImageTable:
        """The table that `state()` described."""
        table = cls()
        if len(state["images"]):
            table.update(state["images"], state["values"])
        return table

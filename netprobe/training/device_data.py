"""Training data that stay on the device as they are stored, and leave it as augmented batches."""

from __future__ import annotations

import torch
from torch import Tensor

from netprobe.data import Data
from netprobe.data.dataset import to_float
from netprobe.errors import NetprobeError
from netprobe.training.augmentation import CropFlips, check_augmentation, crop_flips, padded


class DeviceData:
    """All of `data` on `device`, in the dtype it is stored in; batches are gathered, augmented and converted there.

        x_n = to_float(flip?(padded_n[:, top_n : top_n + H, left_n : left_n + W]))

    Parameters
    ----------
    data : images or waveforms.
    augment : "none", or "crop-flip": a random H×W crop of the padded image, mirrored left to right half of the time.
    padding, padding_mode : pixels on every side, "zeros" or "reflect".
    seed : of crops and flips, which belong to an image and an epoch: an image gets the same ones whatever the
        batch, the order, the rank and the device.
    channels_last : the memory format of the batches; their shape is (B, C, H, W) all the same.

    Notes
    -----
    Memory: the padded images in their own dtype, 240 MB for CIFAR-10 with 4 pixels (154 MB without augmentation),
    and three tables of N entries. A crop is H rows (C·H of them unless channels last), each contiguous in the
    store: one `index_select` over all rows that start anywhere, so no index per pixel and no Python per image.
    Speed: above 100,000 CIFAR images/s on one core of a 2020s server, either memory format
    (tests/benchmarks/data_path.py).
    """

    def __init__(
        self,
        data: Data,
        device: str | torch.device = "cpu",
        *,
        augment: str = "none",
        padding: int = 4,
        padding_mode: str = "zeros",
        seed: int = 0,
        channels_last: bool = False,
    ) -> None:
        check_augmentation(data, augment, padding, padding_mode)
        self.device, self.seed, self.shape = torch.device(device), seed, data.shape
        self.labels = data.labels.to(self.device)
        self.padding = padding if augment == "crop-flip" else 0
        stored = data.stored.to(self.device)
        if data.kind == "image":
            stored = _laid_out(padded(stored, self.padding, padding_mode) if self.padding else stored, channels_last)
        self.stored = stored
        self._drawn: tuple[int, CropFlips] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, positions: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """The inputs at `positions`, (B, ...) float32 in input units, and their labels (B,), fresh, on the device.

        `positions` : (B,) int64, 0..N-1 in any order, repeats allowed; on the CPU or on the device. They are checked
        on the CPU alone, where that does not wait for the device.
        """
        if positions.device.type == "cpu":
            _check_positions(positions, len(self))
        return self.gather(positions.to(self.device), epoch)

    def gather(self, at: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """`batch` for positions that are on the device and known to be right: it waits for nothing."""
        return to_float(self.stored_at(at, epoch)), self.labels[at]

    def stored_at(self, at: Tensor, epoch: int) -> Tensor:
        """The inputs that `gather` gives, in the dtype that they are stored in."""
        x = self._cropped(at, self._crop_flips(epoch)) if self.padding else self.stored.index_select(0, at)
        return _as_images(x) if x.ndim == 5 else x

    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that a batch can hold."""
        low, high = to_float(torch.stack(self.stored.aminmax())).tolist()
        return low, high

    def _crop_flips(self, epoch: int) -> CropFlips:
        """The tables of `epoch` on the device; those of the latest are kept."""
        if self._drawn is None or self._drawn[0] != epoch:
            drawn = crop_flips(len(self), self.padding, self.seed, epoch)
            self._drawn = epoch, CropFlips(*(table.to(self.device) for table in drawn))
        return self._drawn[1]

    def _cropped(self, at: Tensor, drawn: CropFlips) -> Tensor:
        """Crops in the layout of the store: (B, planes, H, W, pixel)."""
        _, height, width = self.shape
        _, planes, high, wide, pixel = self.stored.shape
        plane = (at[:, None] * planes + torch.arange(planes, device=self.device)) * high
        row = (plane + drawn.top[at, None])[..., None] + torch.arange(height, device=self.device)
        start = (row * wide + drawn.left[at, None, None]) * pixel
        crops = _rows(self.stored, width * pixel).index_select(0, start.flatten())
        crops = crops.view(len(at), planes, height, width, pixel)
        return _where(drawn.flip[at], crops.flip(3), crops)


def _check_positions(positions: Tensor, n: int) -> None:
    if positions.dtype != torch.int64 or positions.ndim != 1:
        raise NetprobeError(f"positions must be (B,) int64, not {tuple(positions.shape)} of {positions.dtype}")
    if len(positions) and not 0 <= positions.min() <= positions.max() < n:
        raise NetprobeError(f"positions must lie in 0..{n - 1}, and go from {positions.min()} to {positions.max()}")


def _laid_out(images: Tensor, channels_last: bool) -> Tensor:
    """(N, C, H, W) as (N, planes, H, W, pixel), contiguous: planes of one value a pixel, or one plane of C values."""
    return (images.permute(0, 2, 3, 1)[:, None] if channels_last else images[..., None]).contiguous()


def _as_images(x: Tensor) -> Tensor:
    """The inverse of `_laid_out`, without a copy: (B, C, H, W), whose memory keeps its format."""
    return x[..., 0] if x.shape[-1] == 1 else x[:, 0].permute(0, 3, 1, 2)


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Row by row: `one` where `chosen` (B,), else `other`; copies whole rows, five times as fast as torch.where."""
    rows = torch.arange(len(chosen), device=chosen.device)
    return torch.cat([other, one]).index_select(0, rows + len(chosen) * chosen)


def _rows(stored: Tensor, length: int) -> Tensor:
    """Every run of `length` values in `stored`, from wherever it starts: a view, (starts, length)."""
    values = stored.view(-1)
    return values.as_strided((len(values) - length + 1, length), (1, 1))

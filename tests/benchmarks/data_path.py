"""What augmented batches cost on a CPU: ours against torchvision's PIL transforms in a DataLoader, on one core.

    python tests/benchmarks/data_path.py                    # 32×32 and 160×160 images, one thread
    python tests/benchmarks/data_path.py --rounds 7 --batch 128

Random crop after zero padding, random horizontal flip, float32 in [0, 1]. The images are random bytes: the cost of a
crop does not depend on what is in it. Theirs is what most training scripts use, with num_workers=0, so that both are
measured per core. Times are CPU seconds with one thread, ratios the median over rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator

os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from netprobe.data import Data
from netprobe.training.augmentation import order
from netprobe.training.device_data import DeviceData

PADDING = 4
GOALS = {32: 50_000}  # images/s and core, the slower of our two memory formats
IMAGES = {32: (20_000, 2_000), 160: (800, 400)}  # images an epoch, ours and theirs


class Pictures(Dataset):
    """PIL images, as torchvision's own data sets hand them out."""

    def __init__(self, data: Data, n: int) -> None:
        self.pixels, self.labels = data.stored[:n].permute(0, 2, 3, 1).numpy(), data.labels
        crop = transforms.RandomCrop(data.shape[1:], padding=PADDING)
        self.transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def ours(data: DeviceData, epoch: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    for positions in order(len(data), 0, epoch).split(batch):
        yield data.batch(positions, epoch)


def speed(epoch: Callable[[], Iterator[tuple[Tensor, Tensor]]]) -> float:
    """Images per CPU second of one epoch."""
    start, images = time.process_time(), 0
    for x, _ in epoch():
        images += len(x)
    return images / (time.process_time() - start)


def measure(size: int, batch: int, rounds: int) -> None:
    """A table for images of one size."""
    n, few = IMAGES[size]
    stored = torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Data(stored, torch.arange(n) % 10, tuple("0123456789"), "random")
    options = {"augment": "crop-flip", "padding": PADDING}
    planes, pixels = DeviceData(data, **options), DeviceData(data, channels_last=True, **options)
    pictures = DataLoader(Pictures(data, few), batch, shuffle=True, num_workers=0)
    ways = {
        "torchvision": lambda _: iter(pictures),
        "ours": lambda epoch: ours(planes, epoch, batch),
        "ours, channels last": lambda epoch: ours(pixels, epoch, batch),
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for epoch in range(rounds):
        for way, images in ways.items():
            speeds[way].append(speed(lambda images=images, epoch=epoch: images(epoch)))
    print(f"\n{size}×{size}, batches of {batch}, {rounds} rounds")
    for way, found in speeds.items():
        ratio = np.median(np.divide(found, speeds["torchvision"]))
        low, high = min(found), max(found)
        print(f"  {way:20} {np.median(found):10,.0f} images/s ({low:,.0f} to {high:,.0f})   {ratio:6.1f} x torchvision")
    if size in GOALS:
        slower = min(np.median(found) for way, found in speeds.items() if way.startswith("ours"))
        print(f"  goal {GOALS[size]:,} images/s: {'met' if slower >= GOALS[size] else 'missed'}")


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, one thread")
    for size in IMAGES:
        measure(size, asked.batch, asked.rounds)


if __name__ == "__main__":
    main()

"""What the common corruptions cost: images per second, ours in batches against numpy image by image, in one run.

    python tests/benchmarks/corruptions.py                       # 500 images of 32 x 32 and 8 of 224 x 224, one thread
    python tests/benchmarks/corruptions.py --images 50 --rounds 1  # a quick look

The other way is that of the public generators: per image, numpy, SciPy and Pillow (tests/per_image_corruptions.py). It
is spared what they do slowly without need: drawing for glass_blur pixel by pixel, and reading a photograph of frost for
every image. Its slowest rows are measured on fewer images, as their column says.

Noise is as fast as numpy draws it: ours starts a stream of its own for every image, so that results depend neither on
the batch nor on the order, which costs about as much as the batch saves.

Times are CPU seconds with one thread (wall seconds with more); every round measures both ways in turn, and a ratio is
the median over rounds of the ratio within a round. The two ways must change images alike: what is not random by the
same amount to 1 %, what is random to 25 % of the mean change, or the script fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import per_image_corruptions as per_image
import torch
from measuring import clocked
from PIL import Image
from torch import Tensor

from netprobe.perturb import ImageGenerator
from netprobe.perturb.corruptions import CORRUPTIONS, Corruption

SLOW = {"glass_blur": 1, "spatter": 50, "zoom_blur": 50, "fog": 50, "snow": 50}
"""Images of the other way at most, for what takes it long; at 224 x 224 a tenth, at least one."""
FIXED = {"brightness", "contrast", "defocus_blur", "gaussian_blur", "jpeg_compression"}
FIXED |= {"pixelate", "saturate", "zoom_blur"}


def pictures(count: int, side: int) -> Tensor:
    """Smooth random images of 8 bits in colour."""
    noise = torch.rand(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (side, side), mode="bicubic").clamp(0, 1)
    return (255 * smooth).round() / 255


def photographs(folder: Path) -> list[np.ndarray]:
    """Five photographs of frost that are none, of the size of the benchmark's; also written to `folder`."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(100, 220, (600, 900, 3), np.uint8) for _ in range(5)]
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"frost{number}.png")
    return [picture / 255 for picture in pixels]


def frosted(pictures: list[np.ndarray], scale: int) -> Callable:
    """The per-image way of frost; photographs in memory, scaled before."""
    pictures = [picture[::scale, ::scale] for picture in pictures]

    def frost(x: np.ndarray, level: tuple, rng: np.random.Generator) -> np.ndarray:
        picture = pictures[rng.integers(len(pictures))]
        top, left = (rng.integers(have - need) for have, need in zip(picture.shape, x.shape[:2], strict=False))
        return level[0] * x + level[1] * picture[top : top + x.shape[0], left : left + x.shape[1]]

    return frost


def batched(corruption: Corruption, x: Tensor) -> Tensor:
    """Our way."""
    return corruption(None, x, None, generator=ImageGenerator(0, range(len(x))))


def compared(corruption: Corruption, x: Tensor, few: int, rounds: int) -> tuple[float, float, float]:
    """Images per second of ours and of the other way, and how many times faster ours is."""
    level, name = corruption.level(x), corruption.name
    batched(corruption, x)  # operators and photographs are made once
    rates = []
    for number in range(rounds):
        ours, ours_changed = clocked(batched, corruption, x)
        theirs, changed = clocked(per_image.corrupted, name, x[:few].numpy(), level, number)
        rates.append((len(x) / ours, few / theirs))
    agree(name, ours_changed, changed, x)
    ours, theirs = np.median(rates, axis=0)
    return ours, theirs, float(np.median([a / b for a, b in rates]))


def agree(name: str, ours: Tensor, theirs: np.ndarray, x: Tensor) -> None:
    """Both ways change the images that both have seen by as much."""
    few = len(theirs)
    sizes = [np.abs(np.asarray(changed[:few]) - x[:few].numpy()).mean() for changed in (ours, theirs)]
    within = 0.01 if name in FIXED else 0.25 * max(1, (20 / few) ** 0.5)
    if abs(sizes[0] - sizes[1]) > within * sizes[1]:
        raise SystemExit(f"{name}: the mean change is {sizes[0]:.4g} here and {sizes[1]:.4g} one image at a time")


def table(count: int, side: int, severity: int, rounds: int) -> None:
    """Print both ways of all corruptions at one image size."""
    x = pictures(count, side)
    print(f"\n{count} images of {side} x {side}, severity {severity}, {rounds} rounds, "
          f"{torch.get_num_threads()} thread(s), torch {torch.__version__}")  # fmt: skip
    print(f"  {'images per second':20} {'ours':>10} {'per image':>10} {'(images)':>9}   ratio")
    with tempfile.TemporaryDirectory() as folder:
        photos, ratios = photographs(Path(folder)), {}
        per_image.REFERENCE["frost"] = frosted(photos, scale=5 if side < 64 else 1)
        for name, cls in CORRUPTIONS.items():
            settings = {"textures": folder} if name == "frost" else {}
            few = min(count, SLOW.get(name, count) if side < 64 else max(1, SLOW.get(name, 10 * count) // 10))
            ours, theirs, ratios[name] = compared(cls(severity, **settings), x, few, rounds)
            print(f"  {name:20} {ours:10.0f} {theirs:10.1f} {few:9}   {ratios[name]:.1f}", flush=True)
    slowest = min(ratios, key=ratios.get)
    print(f"  median ratio {np.median(list(ratios.values())):.1f}, least {ratios[slowest]:.1f} ({slowest})")


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500, help="of 32 x 32 pixels")
    parser.add_argument("--large", type=int, default=8, help="images of 224 x 224 pixels")
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for count, side in ((asked.images, 32), (asked.large, 224)):
        table(count, side, asked.severity, asked.rounds)


if __name__ == "__main__":
    main()

"""What a HaH block costs: ours against the direct transcription of its equations, in one run.

    python tests/benchmarks/hah_block.py                         # the six blocks of VGG-16, 32 images, one thread
    python tests/benchmarks/hah_block.py --rounds 2 --images 8   # a quick look
    python tests/benchmarks/hah_block.py --device cuda --images 128

The transcription is what one writes from the paper: divide what comes out of the convolution by the norms, pool,
divide, sort every channel for its threshold; for the loss a second convolution of the detached input, and a sort of the
channels of every place. Outputs, losses and gradients of both must agree to 1e-6 of the largest in float64, or the
script fails: in float32 rounding may carry a place over its threshold. Beside it, ways to find thresholds and strongest
channels; the table says why ours is used. "conv" is the bare convolution, with no norm, ReLU or anything behind it.

A training step is that of one block: forward, and backward from a given gradient of what it puts out and from its loss,
to filters and input (an attack step: to the input alone, no loss). Images are laid out with channels last, as `fit` and
attacks lay them, and for the transcription also plainly ("plain"), as people do. Times are CPU seconds with one thread
(wall seconds with more, or on a GPU, which is waited for); every round measures all ways in turn, and a ratio is the
median over rounds of the ratio within a round. Kept is what torch's allocator holds between the passes of a training
step, beyond what it held before.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
from measuring import kept, seconds
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from netprobe.defenses.hah import AdaptiveThreshold, DivisiveNorm, HaHBlock, NormalizedConv2d, hebbian_responses
from netprobe.defenses.hah.blocks import strongest
from netprobe.defenses.hah.selecting import kth_smallest

VGG = ((3, 64, 32), (64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8))
"""Channels in, channels out, side of the images."""
ALPHA, PENALTY = 1e-3, 1.0


def made(entering: int, leaving: int, device: str, dtype: torch.dtype = torch.float32) -> HaHBlock:
    """A block with the weights that training begins with."""
    torch.manual_seed(0)
    conv = NormalizedConv2d(entering, leaving, 3, padding=1, bias=False)
    block = HaHBlock(conv, DivisiveNorm(), AdaptiveThreshold()).to(device, dtype)
    return block.to(memory_format=torch.channels_last)


def transcribed(block: HaHBlock, x: Tensor) -> Tensor:
    """The block by its equations."""
    y = transcribed_response(block, x)
    mean = max_pool2d(y.abs(), 3, 1, 1).mean(1, keepdim=True)
    z = y / (0.1 * mean.amax((2, 3), keepdim=True) + 0.9 * mean + 1e-7)
    k = int(0.8 * z[0, 0].numel())
    tau = z.detach().flatten(2).sort(-1).values[..., k - 1, None, None]
    return z * (z > tau)


def transcribed_response(block: HaHBlock, x: Tensor) -> Tensor:
    norms = block.conv.weight.flatten(1).norm(dim=1) + 1e-6
    return (conv2d(x, block.conv.weight, padding=1) / norms.view(-1, 1, 1)).relu()


def transcribed_loss(block: HaHBlock, x: Tensor) -> Tensor:
    """L_block, on a convolution of its own so that it reaches these filters alone."""
    y = transcribed_response(block, x.detach()).sort(dim=1, descending=True).values
    k = strongest(y.shape[1], block.top)
    return y[:, :k].mean() - PENALTY * y[:, k:].mean()


def ours_with_loss(block: HaHBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    with hebbian_responses(block) as responses:
        out = block(x)
    return out, responses[0].top - PENALTY * responses[0].rest


def theirs_with_loss(block: HaHBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    return transcribed(block, x), transcribed_loss(block, x)


def step(run: Callable, block: HaHBlock, x: Tensor, slope: Tensor) -> list[Tensor]:
    """The gradients of a training step, in the filters and in x."""
    out, loss = run(block, x)
    return list(torch.autograd.grad((out * slope).sum() - ALPHA * loss, [block.conv.weight, x]))


def attack(run: Callable, block: HaHBlock, x: Tensor, slope: Tensor) -> Tensor:
    """The gradient of an attack's step."""
    block.requires_grad_(False)
    (found,) = torch.autograd.grad((run(block, x) * slope).sum(), x)
    block.requires_grad_(True)
    return found


def forward(run: Callable, block: HaHBlock, x: Tensor) -> Tensor:
    with torch.no_grad():
        return run(block, x)


def bare(block: HaHBlock, x: Tensor) -> Tensor:
    """The convolution alone."""
    return conv2d(x, block.conv.weight, padding=1)


def bare_with_loss(block: HaHBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    return bare(block, x), x.new_zeros(())


TASKS = {
    "forward": (forward, (bare, HaHBlock.__call__, transcribed)),
    "attack step": (attack, (bare, HaHBlock.__call__, transcribed)),
    "training step": (step, (bare_with_loss, ours_with_loss, theirs_with_loss)),
}


def agree(entering: int, leaving: int, side: int, device: str) -> float:
    """The largest difference of outputs, losses and gradients, over the largest; an error above 1e-6."""
    block = made(entering, leaving, device, torch.float64)
    x = torch.rand(4, entering, side, side, dtype=torch.float64, device=device).requires_grad_()
    slope = torch.randn(4, leaving, side, side, dtype=torch.float64, device=device)
    ours, theirs = ([*run(block, x), *step(run, block, x, slope)] for run in (ours_with_loss, theirs_with_loss))
    pairs = zip(ours, theirs, strict=True)
    gap = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    if not gap < 1e-6:
        raise SystemExit(f"{entering} -> {leaving} channels at {side} pixels: the two ways differ by {gap:.2g}")
    return gap


def compared(images: int, rounds: int, device: str, entering: int, leaving: int, side: int) -> None:
    """Print all ways for one block."""
    block, gap = made(entering, leaving, device), agree(entering, leaving, side, device)
    last = torch.channels_last
    x = torch.rand(images, entering, side, side, device=device).requires_grad_()
    slope = torch.randn(images, leaving, side, side, device=device)
    x_last, slope_last = (
        x.detach().contiguous(memory_format=last).requires_grad_(),
        slope.contiguous(memory_format=last),
    )
    for task, (do, runs) in TASKS.items():
        more = ((), ()) if do is forward else ((slope_last,), (slope,))
        ways = [functools.partial(do, run, block, x_last, *more[0]) for run in runs]
        ways.append(functools.partial(do, runs[2], block, x, *more[1]))
        for way in ways:
            seconds(way, device)
        times = np.array([[seconds(way, device) for way in ways] for _ in range(rounds)])
        ms, ratios = 1e3 * np.median(times, 0), np.median(times[:, 2:] / times[:, 1:2], 0)
        memory = [kept(functools.partial(run, block, x_last), device) for run in runs[1:]] if do is step else []
        print(f"  {f'{entering} -> {leaving} at {side}, {task}':34}"
              f" {ms[0]:7.2f} {ms[1]:7.2f} {ms[2]:10.2f} {ms[3]:7.2f}   {ratios[0]:5.1f}x {ratios[1]:5.1f}x   "
              + "".join(f"{mib:7.1f}" for mib in memory), flush=True)  # fmt: skip
    print(f"    the two ways agree to {gap:.1g} of the largest in float64")


def table(images: int, rounds: int, device: str) -> None:
    """Print all ways for every block."""
    print(
        f"\n{images} images, {rounds} rounds, {device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    )
    print(f"  {'ms':34} {'conv':>7} {'ours':>7} {'equations':>10} {'plain':>7}   {'ratios':>12}   {'MiB kept':>14}")
    for sizes in VGG:
        compared(images, rounds, device, *sizes)


def selections(images: int, rounds: int, device: str) -> None:
    """Print ways to find the threshold of every channel, and the K-th largest channel of every place."""
    print(f"\nthe k-th smallest, ms ({rounds} rounds, {device})")
    for leaving, side in ((64, 32), (128, 16), (256, 8)):
        y = torch.rand(images, leaving, side, side, device=device) - 0.5
        places, channels = y.relu().flatten(2), y.relu().permute(0, 2, 3, 1).contiguous()
        for name, rows, k in (
            ("threshold", places, int(0.8 * side * side)),
            ("strongest", channels, leaving - strongest(leaving, 0.1) + 1),
        ):
            found = {way: 1e3 * median(run, rounds, device) for way, run in selecting(rows, k).items()}
            rows_of = f"{rows.numel() // rows.shape[-1]} rows of {rows.shape[-1]}"
            print(f"  {name} of {rows_of:22}" + "  ".join(f"{way} {ms:.2f}" for way, ms in found.items()))


def selecting(rows: Tensor, k: int) -> dict[str, Callable[[], object]]:
    """Ways to find the k-th smallest of every row."""
    ways = {
        "ours": lambda: kth_smallest(rows, k),
        "kthvalue": lambda: rows.kthvalue(k, -1),
        "topk": lambda: rows.topk(rows.shape[-1] - k + 1, -1, sorted=False).values.amin(-1),
        "sort": lambda: rows.sort(-1),
    }
    if rows.device.type == "cpu":
        ways["numpy.partition"] = lambda: np.partition(rows.numpy(), k - 1, -1)[..., k - 1]
    return ways


def median(run: Callable[[], object], rounds: int, device: str) -> float:
    """The median of so many runs after one that is not counted."""
    return float(np.median([seconds(run, device) for _ in range(rounds + 1)][1:]))


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    selections(asked.images, asked.rounds, asked.device)
    table(asked.images, asked.rounds, asked.device)


if __name__ == "__main__":
    main()

"""What cepstra of waveforms cost: ours against the usual short-time Fourier transform, in one run.

    python tests/benchmarks/mfcc.py                            # the published front end, and torchaudio's defaults
    python tests/benchmarks/mfcc.py --rounds 1 --batch 16      # a quick look
    python tests/benchmarks/mfcc.py --device cuda --batch 256

The usual way is torch.stft, whose squares are weighted and summed; the rest is the same. Both must give the same
coefficients and gradients to 1e-9 of the largest in float64, or the script fails. *Attack step* is the gradient of the
waveforms. Times are CPU seconds with one thread (wall seconds with more, or on a GPU, which is waited for); every round
measures both ways in turn, and a ratio is the median over rounds of the ratio within a round. Memory is the largest
amount that torch held at a time beyond what it held before.
"""

from __future__ import annotations

import argparse
import os
import sys

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
from measuring import peak, seconds
from sparse_encoder import attacked, inference
from torch import Tensor

from netprobe.models.mfcc import FLOOR, MFCC, PUBLISHED

FRONTS = {"published, one second at 8 kHz": (PUBLISHED, 8_000), "torchaudio's defaults, at 16 kHz": ({}, 16_000)}


def usual(layer: MFCC, x: Tensor) -> Tensor:
    """By torch.stft."""
    hann = torch.hann_window(layer.window, dtype=torch.float64, device=x.device).to(x.dtype)
    frames = torch.stft(x, layer.n_fft, layer.hop, layer.window, hann, center=True, return_complex=True)
    mel = layer.filters.to(x.dtype) @ torch.view_as_real(frames).square().sum(-1)
    return (layer.cosines.to(x.dtype) @ (mel + FLOOR).log() - layer.mean) / layer.std


def agree(layer: MFCC, x: Tensor) -> None:
    """Both ways give the same coefficients and gradients."""
    point = x.double().requires_grad_()
    outputs = [layer.double()(point), usual(layer.double(), point)]
    gradients = [torch.autograd.grad(out.square().sum(), point)[0] for out in outputs]
    for ours, theirs in (outputs, gradients):
        worst = float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())
        if worst > 1e-9:
            raise SystemExit(f"ours and torch.stft differ by {worst:.2g} of the largest")


def table(name: str, batch: int, rounds: int, device: str) -> None:
    """Print both ways for one front end."""
    how, samples = FRONTS[name]
    x = 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)).to(device)
    agree(MFCC(**how).to(device), x[:4])
    layer = MFCC(**how).to(device)
    print(f"\n{name}, {batch} waveforms, {rounds} rounds, {device}, {torch.get_num_threads()} thread(s), "
          f"torch {torch.__version__}")  # fmt: skip
    print(f"  {'ms a waveform':14} {'ours':>8} {'usual':>8} {'ratio':>6}   {'MiB ours':>9} {'usual':>6}")
    ways = [layer, lambda z: usual(layer, z)]
    tasks = {"forward": [inference(lambda way=way: way(x)) for way in ways]}
    tasks["attack step"] = [lambda way=way: attacked(way, x) for way in ways]
    for task, both in tasks.items():
        for way in both:
            seconds(way, device)
        times = np.array([[seconds(way, device) for way in both] for _ in range(rounds)])
        ours, theirs = 1e3 * np.median(times, axis=0) / batch
        held = [peak(way, device) for way in both]
        ratio = np.median(times[:, 1] / times[:, 0])
        print(f"  {task:14} {ours:8.3f} {theirs:8.3f} {ratio:5.2f}x   {held[0]:9.0f} {held[1]:6.0f}", flush=True)


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in FRONTS:
        table(name, asked.batch, asked.rounds, asked.device)


if __name__ == "__main__":
    main()

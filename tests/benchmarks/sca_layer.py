"""What the self-consistent layer costs: ours against the direct transcription of its equations, in one run.

    python tests/benchmarks/sca_layer.py                                   # the sizes of the paper and half of them
    python tests/benchmarks/sca_layer.py --rounds 1 --batch 32             # a quick look
    python tests/benchmarks/sca_layer.py --device cuda --batch 256

The transcription writes the equations with torch.nn.functional as they stand, C masked in every step, and leaves the
gradient to autograd. Both must give the same activations, and the same gradients, to 1e-6 of the largest, or the
script fails. *Attack step* is the gradient of the inputs alone. *Checkpointed* is ours with `checkpoint`, against the
transcription without.

Times are CPU seconds with one thread (wall seconds with more, or on a GPU, which is waited for); every round measures
both ways in turn, and a ratio is the median over rounds of the ratio within a round. Memory is the largest amount that
torch held at a time beyond what it held before. Weights are those that training begins with, inputs uniform: no cost
depends on them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
from measuring import peak, seconds
from sparse_encoder import attacked, inference, trained
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from netprobe.defenses.sca import SCALinear

SIZES = {
    "MNIST, n = 2048": (784, 2048, 16),
    "words, n = 2048": (4016, 2048, 16),
    "MNIST, n = 512": (784, 512, 8),
    "a narrow input, n = 512": (64, 512, 8),
}


def transcribed(layer: SCALinear, x: Tensor) -> Tensor:
    """The equations, step by step."""
    s = linear(x, layer.weight, layer.bias)
    for _ in range(layer.steps):
        lateral = layer.lateral * (1 - torch.eye(layer.units, device=x.device))
        a = relu(s)
        z = linear(a, lateral, layer.lateral_bias)
        r = a - relu(z)
        q = x - linear(a, layer.feedback, layer.feedback_bias)
        u = r - ((z > 0) * r) @ lateral - layer.lam * q @ layer.feedback
        k = (layer.cap / u.detach().abs().amax(1, keepdim=True)).clamp(max=1)
        s = a - layer.eta * k * u
    return relu(s)


def tasks(layer: SCALinear, x: Tensor) -> dict[str, tuple[Callable, Callable]]:
    """What is measured: ours and the transcription."""

    def theirs(z: Tensor) -> Tensor:
        return transcribed(layer, z)

    return {
        "forward": (inference(lambda: layer(x)), inference(lambda: theirs(x))),
        "training step": (lambda: trained(layer, x, layer), lambda: trained(theirs, x, layer)),
        "checkpointed": (lambda: trained(layer, x, layer), lambda: trained(theirs, x, layer)),
        "attack step": (lambda: attacked(layer, x), lambda: attacked(theirs, x)),
    }


def agree(layer: SCALinear, x: Tensor) -> None:
    """Both ways give the same activations and gradients, in float64, where rounding cannot tell them apart."""
    layer, x = layer.double(), x.double().requires_grad_()
    outputs = [layer(x), transcribed(layer.double(), x)]
    gradients = [torch.autograd.grad(out.square().sum(), [x, *layer.parameters()]) for out in outputs]
    for ours, theirs in zip((outputs[0], *gradients[0]), (outputs[1], *gradients[1]), strict=True):
        worst = float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())
        if worst > 1e-6:
            raise SystemExit(f"ours and the equations differ by {worst:.2g} of the largest")


def table(name: str, batch: int, rounds: int, device: str) -> None:
    """Print both ways at one size."""
    features, units, steps = SIZES[name]
    torch.manual_seed(0)
    x = torch.rand(batch, features, device=device)
    agree(SCALinear(nn.Linear(features, units, device=device), steps=steps), x[:8])
    layer = SCALinear(nn.Linear(features, units, device=device), steps=steps)
    print(f"\n{name}, d = {features}, T = {steps}, {batch} rows, {rounds} rounds, {device}, "
          f"{torch.get_num_threads()} thread(s), torch {torch.__version__}")  # fmt: skip
    print(f"  {'ms a row':16} {'ours':>8} {'equations':>10} {'ratio':>6}   {'MiB ours':>9} {'equations':>10}")
    for task, ways in tasks(layer, x).items():
        layer.requires_grad_(task != "attack step")
        layer.checkpoint = task == "checkpointed"
        for way in ways:
            seconds(way, device)
        times = np.array([[seconds(way, device) for way in ways] for _ in range(rounds)])
        ours, theirs = 1e3 * np.median(times, axis=0) / batch
        memory = [peak(way, device) for way in ways]
        ratio, held = np.median(times[:, 1] / times[:, 0]), f"{memory[0]:9.0f} {memory[1]:10.0f}"
        print(f"  {task:16} {ours:8.3f} {theirs:10.3f} {ratio:5.2f}x   {held}", flush=True)


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in SIZES:
        table(name, asked.batch, asked.rounds, asked.device)


if __name__ == "__main__":
    main()

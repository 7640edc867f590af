"""What local learning costs: our batched step against sample by sample, as it is published, in one run.

    python tests/benchmarks/local_learning.py                          # MNIST's sizes, 2000 units, one thread
    python tests/benchmarks/local_learning.py --images 2000 --rounds 2 # a quick look
    python tests/benchmarks/local_learning.py --device cuda --images 60000

    ours        a batch at once, `Learner`
    equations   a batch at once as one writes it from the equations: W^ anew, two products, a full sort, dW of all units
    exact       `rule="sequential"`: sample by sample, with W^ and norms of moved units alone brought up to date
    published   sample by sample as one writes it from the equations: W^, all norms, a full sort and dW of all units

The first two are the same rule, so are the last two, and weights after a few steps must agree to 1e-9 in float64, or
the script fails. Samples are MNIST's where NETPROBE_DATA has them, else random ones, half of their values zero; divided
by their 3-norms. What goes sample by sample is timed on so many of them that it takes a second or so. Every round
measures all ways in turn from the same weights; a ratio is the median over rounds of the ratio within a round. Times
are CPU seconds with one thread (wall seconds with more, or on a GPU, which is waited for).
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
from measuring import seconds
from torch import Tensor

from netprobe import data
from netprobe.defenses.krotov_hopfield import Learner, LocalRule, start
from netprobe.errors import MissingData, NetprobeError

UNITS, LR, WARM = 2000, 0.02, 2000
SLOW = 200
"""Samples of the ways that go sample by sample: so many at most."""


def ours(weight: Tensor, v: Tensor, rule: LocalRule, batch: int) -> Tensor:
    learner = Learner(weight.clone(), rule)
    for part in v.split(batch):
        learner.step(part, LR)
    return learner.weight


def equations(weight: Tensor, v: Tensor, rule: LocalRule, batch: int) -> Tensor:
    weight = weight.clone()
    for part in v.split(batch):
        h = part @ (weight.sign() * weight.abs() ** (rule.p - 1)).T
        ranks = h.argsort(dim=1, descending=True)
        g, rows = torch.zeros_like(h), torch.arange(len(part), device=h.device)
        g[rows, ranks[:, 0]], g[rows, ranks[:, rule.k - 1]] = 1.0, -rule.delta
        moved = rule.radius**rule.p * g.T @ part - (g * h).sum(0)[:, None] * weight
        weight += LR * moved / moved.abs().max()
    return weight


def exact(weight: Tensor, v: Tensor, rule: LocalRule, batch: int) -> Tensor:
    return ours(
        weight, v, LocalRule(p=rule.p, k=rule.k, delta=rule.delta, radius=rule.radius, rule="sequential"), batch
    )


def published(weight: Tensor, v: Tensor, rule: LocalRule, batch: int) -> Tensor:
    weight = weight.clone()
    for sample in v:
        h = (weight.sign() * weight.abs() ** (rule.p - 1)) @ sample
        q = h / (weight.abs() ** rule.p).sum(1) ** ((rule.p - 1) / rule.p)
        ranks = q.argsort(descending=True)
        g = torch.zeros_like(h)
        g[ranks[1 : rule.k]], g[ranks[0]] = -rule.delta, 1.0
        moved = g[:, None] * (rule.radius**rule.p * sample - h[:, None] * weight)
        weight += LR * moved / moved.abs().max()
    return weight


def agree(rule: LocalRule) -> tuple[float, float]:
    """The largest differences of weights after some steps of both rules; an error above 1e-9."""
    weight, v = start(60, 40, 0).double(), torch.rand(80, 40, dtype=torch.float64)
    v /= torch.linalg.vector_norm(v, 3, dim=1, keepdim=True)
    pairs = ((ours, equations), (exact, published))
    gaps = [(one(weight, v, rule, 20) - other(weight, v, rule, 20)).abs().max().item() for one, other in pairs]
    if not all(gap < 1e-9 for gap in gaps):
        raise SystemExit(f"the ways differ by {gaps}")
    return gaps[0], gaps[1]


def samples(images: int, features: int, device: str) -> tuple[Tensor, str]:
    """(N, D) of 3-norm 1."""
    try:
        if features != 784:
            raise MissingData("MNIST has 784 values")
        raw, name = data.load("mnist", "train", limit=images).inputs.flatten(1), "MNIST"
    except NetprobeError:
        raw = (torch.rand(images, features, generator=torch.Generator().manual_seed(0)) * 2 - 1).clamp_min(0)
        name = "random"
    return (raw / torch.linalg.vector_norm(raw, 3, dim=1, keepdim=True)).to(device), name


def table(images: int, features: int, batch: int, k: int, rounds: int, device: str) -> None:
    """Print images a second of all ways."""
    rule, (v, name) = LocalRule(k=k), samples(images, features, device)
    gaps = agree(rule)
    # Trained for a little: at a random start few units win everything.
    weight = ours(start(UNITS, features, 0).to(device), v[:WARM], rule, batch)
    ways: dict[Callable, int] = {ours: len(v), equations: min(len(v), 10 * batch), exact: SLOW, published: SLOW // 4}
    for way in ways:
        way(weight, v[: 2 * batch] if way in (ours, equations) else v[:2], rule, batch)
    rates = np.array(
        [
            [count / seconds(lambda way=way, count=count: way(weight, v[:count], rule, batch), device)
             for way, count in ways.items()]
            for _ in range(rounds)
        ]
    )  # fmt: skip
    ratios = np.median(rates[:, :1] / rates, 0)
    print(f"\n{len(v)} {name} samples of {features} values, {UNITS} units, k={k}, batches of {batch}, {rounds} rounds, "
          f"{device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")  # fmt: skip
    for way, rate, ratio in zip(ways, np.median(rates, 0), ratios, strict=True):
        print(f"  {way.__name__:10} {rate:10.0f} images/s" + ("" if way is ours else f"   ours {ratio:7.1f}x"))
    print(f"    weights agree to {gaps[0]:.1g} (a batch at once) and {gaps[1]:.1g} (sample by sample) in float64")


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--k", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with torch.no_grad():
        table(asked.images, asked.features, asked.batch, asked.k, asked.rounds, asked.device)


if __name__ == "__main__":
    main()

"""What pair targets of many images and CKA cost, against plain transcriptions.

    python tests/benchmarks/similarity.py [images]

Shuffled pairs and their targets, 16 a step, at N = 50,000 grey 32 x 32 images: memory beyond the images themselves, and
the time of a step; the plain way is a matrix of N^2 float32 numbers and a list of all pairs. CKA of the sites of a
network: N^2 of one Gram matrix is shared by all pairs, the plain way makes two for each pair.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from measuring import peak, seconds
from torch import nn

import netprobe as npb
from netprobe.defenses.regularisers.similarity.pair_stream import PairStream
from netprobe.representations.alignment import cka_matrix
from netprobe.representations.pairs import pair_count
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.ranges import SimilarityRange

PAIRS = 16
QUIET = {"preflight": False, "progress": False}


def smooth(images: int) -> npb.data.Data:
    """Grey 32 x 32 images, coarse enough that some pairs are alike."""
    coarse = torch.rand(images, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    fine = (255 * nn.functional.interpolate(coarse, (32, 32), mode="bilinear")).byte()
    return npb.data.load((fine, torch.arange(images) % 10))


def targets(images: int) -> None:
    data, made = smooth(images), []
    held = peak(lambda: made.append(PixelSimilarity(data)), "cpu")
    print(f"{images} images, {pair_count(images):.3g} pairs; images {data.stored.nbytes / 2**20:.0f} MiB")
    print(f"  norms and mean image: peak {held:.1f} MiB; the full matrix would be {4 * images**2 / 2**20:.0f} MiB")
    for chosen in (SimilarityRange(0.8), SimilarityRange(0.8, "low"), SimilarityRange(0.8, "high")):
        stream_of(made[0], chosen)


def stream_of(similarity: PixelSimilarity, chosen: SimilarityRange) -> None:
    """What the regulariser asks for, step by step."""
    streams: list[PairStream] = []
    took, cursor = seconds(lambda: streams.append(PairStream(similarity, chosen, 0))), 0

    def step() -> None:
        nonlocal cursor
        cursor = streams[0].take(cursor, PAIRS).cursor

    spent = seconds(lambda: [step() for _ in range(500)]) / 500
    print(
        f"  {chosen.kept}: made in {took:.2f} s; {PAIRS} pairs a step: {1e3 * spent:.2f} ms, "
        f"peak {peak(step, 'cpu'):.2f} MiB; {streams[0].count:.3g} candidates a pass"
    )


def network() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
    for _ in range(5):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).eval()


def plain(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Unbiased CKA, pair by pair of sites, as written in Song et al.; features held at once.

    Centred first, which changes nothing on paper: without it float64 loses 1e-2 on the last layer here, whose mean is
    thousands of times its spread.
    """
    features, hooks = [], []
    for module in model:
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(lambda _m, _i, out: features.append(out.flatten(1).double())))
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()

    def hsic(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        n = len(a)
        k, other = ((f @ f.T).fill_diagonal_(0) for f in (a - a.mean(0), b - b.mean(0)))
        cross = (k.sum(0) * other.sum(0)).sum()
        return ((k * other).sum() + k.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))

    return np.array([[(hsic(a, b) / (hsic(a, a) * hsic(b, b)).sqrt()).item() for b in features] for a in features])


def alignment(images: int = 300) -> None:
    """In float64: layers that barely vary around a large mean leave float32 few digits."""
    model, x = network().double(), torch.rand(images, 3, 16, 16)
    data, found, exact = npb.data.load((x, torch.arange(images) % 10)), {}, {"dtype": "float64", **QUIET}
    ours = seconds(lambda: found.update(ours=cka_matrix(model, data, **exact)))
    theirs = seconds(lambda: found.update(plain=plain(model, x.double())))
    memory = peak(lambda: cka_matrix(model, data, memory="32MB", **exact), "cpu")
    whole = peak(lambda: plain(model, x.double()), "cpu")
    difference = np.abs(found["ours"]["Sequential/cka_matrix"]["cka"].values[0] - found["plain"]).max()
    print(f"CKA of {len(found['plain'])} sites, {images} images; values differ by {difference:.1g}")
    print(f"  {ours:.2f} s with 8 jackknife blocks, plain {theirs:.2f} s")
    print(f"  torch memory: peak {memory:.0f} MiB with memory=32MB, plain {whole:.0f} MiB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    targets(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
    alignment()

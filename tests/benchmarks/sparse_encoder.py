"""What the sparse coding front end costs: ours against the direct transcription of its equations, in one run.

    python tests/benchmarks/sparse_encoder.py                    # 64 images of 32 x 32 and 4 of 160 x 160, one thread
    python tests/benchmarks/sparse_encoder.py --rounds 1 --images 16 --large 0    # a quick look
    python tests/benchmarks/sparse_encoder.py --device cuda

The transcription is what one writes from the paper: all projections of the batch at once by a convolution, all
coefficients of a patch sorted by size, those behind the T-th set to zero, a dense code with channels first, and a
transposed convolution of it. Both must give the same codes and images, or the script fails. Beside it, other ways to
find the T largest coefficients of the same projections: none is used, and the table says why.

Times are CPU seconds with one thread (wall seconds with more, or on a GPU, which is waited for); every round measures
both ways in turn, and a ratio is the median over rounds of the ratio within a round. Memory is the largest amount that
torch held at a time beyond what it held before, counted by its own allocator in a pass of its own. Images are smooth
and random, atoms random, weights those that training begins with: no cost here depends on them.
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
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, interpolate

from netprobe.defenses.sparse_coding import Decoder, Encoder, SparseCoding

SMOOTH = "smooth-topu"
SIZES = {
    32: ({"patch": 4, "stride": 2, "atoms": 500}, "strides"),
    160: ({"patch": 8, "stride": 4, "atoms": 1000}, "bicubic"),
}
MODELS = {32: {"T=15": (15, 0.0), "T=50, p=0.95": (50, 0.95)}, 160: {"T=15": (15, 0.0), "T=100, p=0.95": (100, 0.95)}}


def pictures(count: int, size: int, device: str) -> Tensor:
    """Smooth random images."""
    noise = torch.rand(count, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    return interpolate(noise, (size, size), mode="bicubic").clamp(0, 1).to(device)


def transcribed_code(encoder: Encoder, x: Tensor, surrogate: bool = False) -> Tensor:
    """The equations: project, sort, drop, quantise; with `surrogate`, tanh in the gradient and the U largest."""
    projections = conv2d(x, encoder.dictionary, stride=encoder.stride)
    order = projections.detach().abs().sort(dim=1, descending=True).indices
    top = torch.zeros_like(projections).scatter(1, order[:, : encoder.top], 1.0)
    code = projections * top
    if surrogate:
        wide = torch.zeros_like(projections).scatter(1, order[:, : int(encoder.reach * encoder.top)], 1.0)
        code = code.detach() + (projections - projections.detach()) * wide
    if encoder.dropout:
        code = code * (torch.rand_like(code) >= encoder.dropout)
    length, j = encoder.lengths().view(-1, 1, 1), encoder.threshold
    r = code / length
    hard = ((r - j).sign() + (r + j).sign()) / 2
    if surrogate:
        soft = (torch.tanh(encoder.sharpness * (r - j)) + torch.tanh(encoder.sharpness * (r + j))) / 2
        hard = soft + (hard - soft).detach()
    return hard * length


def transcribed(front: SparseCoding, x: Tensor, surrogate: bool = False) -> Tensor:
    """The whole front end by its equations."""
    decoder, code = front.decoder, transcribed_code(front.encoder, x, surrogate)
    out = conv_transpose2d(code, decoder.first.weight, decoder.first.bias, decoder.first.stride).relu()
    if decoder.upsampling == "bicubic":
        out = interpolate(out, (decoder.size + 2, decoder.size + 2), mode="bicubic")
    for layer in (decoder.second, decoder.third):
        out = conv_transpose2d(out, layer.weight, layer.bias).relu()
    edge = (out.shape[-1] - decoder.size) // 2
    return out[..., edge : edge + decoder.size, edge : edge + decoder.size].clamp(0, 1)


def attacked(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of an attack's step."""
    point = x.clone().requires_grad_()
    run(point).sum().backward()
    return point.grad


def trained(run: Callable[[Tensor], Tensor], x: Tensor, front: SparseCoding) -> None:
    """The gradients of a training step."""
    front.zero_grad(set_to_none=True)
    run(x).sum().backward()


def tasks(front: SparseCoding, x: Tensor) -> dict[str, tuple[Callable, Callable]]:
    """What is measured: ours and the transcription."""

    def ours_attacked() -> Tensor:
        with front.backward_surrogate(SMOOTH):
            return attacked(front, x)

    return {
        "code": (inference(lambda: front.encoder(x)), inference(lambda: transcribed_code(front.encoder, x))),
        "image": (inference(lambda: front(x)), inference(lambda: transcribed(front, x))),
        "training step": (lambda: trained(front, x, front), lambda: trained(lambda z: transcribed(front, z), x, front)),
        "attack step": (ours_attacked, lambda: attacked(lambda z: transcribed(front, z, True), x)),
    }


def inference(run: Callable[[], object]) -> Callable[[], object]:
    """`run` without gradients."""

    def inside() -> object:
        with torch.no_grad():
            return run()

    return inside


def agree(front: SparseCoding, x: Tensor) -> None:
    """Both ways give the same codes and images where nothing is random, but for ties within rounding."""
    if front.random:
        return
    with torch.no_grad():
        codes = front.encoder(x).dense(), transcribed_code(front.encoder, x)
        alike = torch.isclose(*codes, rtol=1e-5, atol=1e-6).all(1)
        images = (front(x) - transcribed(front, x)).abs().amax((1, 2, 3))
    wrong = ~alike.flatten(1).all(1)
    if alike.float().mean() < 0.999 or images[~wrong].max() > 1e-5:
        raise SystemExit(f"codes agree in {alike.float().mean():.4%} of the patches, images to {images.max():.2g}")


def table(count: int, size: int, rounds: int, device: str) -> None:
    """Print both ways at one image size."""
    x, (settings, upsampling) = pictures(count, size, device), SIZES[size]
    print(f"\n{count} images of {size} x {size}, {settings['atoms']} atoms, {rounds} rounds, {device}, "
          f"{torch.get_num_threads()} thread(s), torch {torch.__version__}")  # fmt: skip
    print(f"  {'ms an image':28} {'ours':>8} {'equations':>10} {'ratio':>6}   {'MiB ours':>9} {'equations':>10}")
    for name, (top, dropout) in MODELS[size].items():
        torch.manual_seed(0)
        encoder = Encoder(**settings, top=top, dropout=dropout)
        front = SparseCoding(encoder, Decoder(**settings, size=size, upsampling=upsampling)).to(device)
        agree(front, x)
        for task, ways in tasks(front, x).items():
            front.requires_grad_(task == "training step")
            for way in ways:
                seconds(way, device)
            times = np.array([[seconds(way, device) for way in ways] for _ in range(rounds)])
            ours, theirs = 1e3 * np.median(times, axis=0) / count
            memory = [peak(way, device) for way in ways]
            ratio, held = np.median(times[:, 1] / times[:, 0]), f"{memory[0]:9.0f} {memory[1]:10.0f}"
            print(f"  {f'{name}, {task}':28} {ours:8.2f} {theirs:10.2f} {ratio:5.1f}x   {held}", flush=True)


def selections(rounds: int, device: str) -> None:
    """Print ways to find the T largest of the same projections, channels last and first."""
    encoder = Encoder().to(device)
    sizes = encoder.project(pictures(16, 32, device)).abs()
    first = sizes.permute(0, 3, 1, 2).contiguous()
    print(f"\nselection of T of 500, ms an image of 32 x 32 ({rounds} rounds, {device})")
    for top in (1, 15, 30, 50, 100):
        ways = {
            "topk": lambda top=top: sizes.topk(top, -1),
            "topk unsorted": lambda top=top: sizes.topk(top, -1, sorted=False),
            "topk channels first": lambda top=top: first.topk(top, 1),
            "kthvalue": lambda top=top: sizes.kthvalue(500 - top + 1, -1),
            "sort": lambda: sizes.sort(-1, descending=True),
        }
        if device == "cpu":
            ways["numpy.argpartition"] = lambda top=top: np.argpartition(sizes.numpy(), 500 - top, -1)
        found = {name: np.median([seconds(way, device) for _ in range(rounds + 1)][1:]) for name, way in ways.items()}
        print(f"  T={top:<4}" + "  ".join(f"{name} {1e3 * seconds / 16:.2f}" for name, seconds in found.items()))


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64, help="of 32 x 32 pixels")
    parser.add_argument("--large", type=int, default=4, help="images of 160 x 160 pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    selections(asked.rounds, asked.device)
    for count, size in ((asked.images, 32), (asked.large, 160)):
        if count:
            table(count, size, asked.rounds, asked.device)


if __name__ == "__main__":
    main()

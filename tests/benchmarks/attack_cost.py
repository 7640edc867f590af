"""What robust accuracy under PGD costs: ours against a bare PyTorch loop and foolbox, at equal settings.

    NETPROBE_DATA=... python tests/benchmarks/attack_cost.py                  # PGD-20, 512 images, both public networks
    python tests/benchmarks/attack_cost.py --images 128 --long                # PGD-400: image-steps and survivors

The networks are the naturally and the PGD-trained ResNet-32 of github.com/canbakiskan/neuro-inspired-defense, on the
JPEG copy of CIFAR-10; Linf, eps 8/255, step 1/255, random start, batches of 64. Times are CPU seconds with one thread
(wall seconds with more), ratios the median over rounds of the ratio within a round. Ours counts an image as fallen if
any step fools the model, the others if the last one does, so ours may only be lower.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
from measuring import clocked
from torch import Tensor, nn

import netprobe as npb
from netprobe.data.root import data_root
from netprobe.perturb import PGD, ImageGenerator

EPS, STEP, BATCH = 8 / 255, 1 / 255, 64
GOALS = {
    "PGD-trained": (("ours", "bare", 2.3), ("ours, bfloat16 gradients", "bare", 4.0)),
    "natural": (("ours", "bare", 5.0),),
}
FILES = {"PGD-trained": "*_PGD_*.pt", "natural": "*_NT_*.pt"}
LONG = 400


def network(kind: str) -> nn.Module:
    """One of the public checkpoints."""
    folder = data_root(None) / "checkpoints"
    found = sorted(Path(folder).glob(FILES[kind]))
    if not found:
        sys.exit(f"no checkpoint {FILES[kind]} in {folder}: set NETPROBE_DATA")
    return npb.load("resnet32_thin", found[0], normalize="cifar10")


def bare(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """The loop that everyone writes; which images stand."""
    stand = []
    for images, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
        start = (2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) - 1) * EPS
        z = (images + start).clamp(0, 1)
        for _ in range(steps):
            z.requires_grad_()
            loss = nn.functional.cross_entropy(model(z), labels, reduction="sum")
            z = z.detach() + STEP * torch.autograd.grad(loss, z)[0].sign()
            z = torch.minimum(torch.maximum(z, images - EPS), images + EPS).clamp(0, 1)
        with torch.no_grad():
            stand.append(model(z).argmax(1) == labels)
    return torch.cat(stand)


def by_foolbox(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """foolbox's LinfPGD."""
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=steps, random_start=True)
    stand = []
    for images, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
        stand.append(~attack(wrapped, images, labels, epsilons=EPS)[2])
    return torch.cat(stand)


def ours(model: nn.Module, x: Tensor, y: Tensor, steps: int, gradients: torch.dtype | None = None) -> Tensor:
    """netprobe's."""
    return ~fooled(model, x, y, steps, gradients).fooled


def fooled(model: nn.Module, x: Tensor, y: Tensor, steps: int, gradients: torch.dtype | None = None):
    attack = PGD(EPS, steps=steps, step_size=STEP)
    return attack.fool(model, x, y, generator=ImageGenerator(0, range(len(x))), slots=BATCH, gradients=gradients)


def timed(kind: str, x: Tensor, y: Tensor, rounds: int) -> None:
    """PGD-20 by everyone: seconds, ratio, robust accuracy."""
    model = network(kind)
    ways = {
        "bare": bare,
        "foolbox": by_foolbox,
        "ours": ours,
        "ours, bfloat16 gradients": lambda *given: ours(*given, torch.bfloat16),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    stand: dict[str, Tensor] = {}
    for _ in range(rounds):
        for way, run in ways.items():
            took, stand[way] = clocked(run, model, x, y, 20)
            seconds[way].append(took)
    print(
        f"\n{kind} ResNet-32, PGD-20, {len(x)} images, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    )
    for way, measured in seconds.items():
        ratio = np.median(np.divide(seconds["bare"], measured))
        accuracy = 100 * stand[way].double().mean()
        print(f"  {way:26} {np.median(measured):8.1f} s  {ratio:6.2f} x as fast as bare   {accuracy:5.1f} % stand")
    for way, other, goal in GOALS[kind]:
        ratio = float(np.median(np.divide(seconds[other], seconds[way])))
        print(f"  {other} / {way}: {ratio:.2f}   goal {goal}: {'met' if ratio >= goal else 'missed'}")


def unmoved(x: Tensor, y: Tensor) -> None:
    """Nothing falls: eps so small that every image stands to the last step."""
    model = network("PGD-trained")
    attack = PGD(1e-6, steps=20)
    model(x[:BATCH])
    correct = torch.cat([model(part).argmax(1).detach() for part in x.split(BATCH)]) == y
    x, y = x[correct], y[correct]
    generator = ImageGenerator(0, range(len(x)))
    mine, found = clocked(lambda: attack.fool(model, x, y, generator=generator, slots=BATCH))
    theirs, _ = clocked(bare, model, x, y, 20)
    print(f"\nnothing falls ({int(found.fooled.sum())} of {len(x)}): bare / ours {theirs / mine:.2f}   goal 1")


def long(x: Tensor, y: Tensor) -> None:
    """PGD-400: fewer image-steps, the same survivors."""
    for kind in FILES:
        model = network(kind)
        took, found = clocked(fooled, model, x, y, LONG)
        full, stand = clocked(bare, model, x, y, LONG)
        spent = int(found.backwards.sum())
        print(
            f"\n{kind} ResNet-32, PGD-{LONG}, {len(x)} images: {spent} of {LONG * len(x)} image-steps "
            f"({LONG * len(x) / max(spent, 1):.1f} x fewer, goal 8); stand: ours {int((~found.fooled).sum())}, "
            f"bare {int(stand.sum())}; {full:.1f} s / {took:.1f} s = {full / took:.1f}"
        )


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--long", action="store_true", help=f"PGD-{LONG} instead")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")
    data = npb.data.load("cifar10-jpeg", limit=asked.images)
    if asked.long:
        long(data.inputs, data.labels)
        return
    for kind in FILES:
        timed(kind, data.inputs, data.labels, asked.rounds)
    unmoved(data.inputs[:128], data.labels[:128])


if __name__ == "__main__":
    main()

"""What a training step costs: the loop of `netprobe.fit` against bare PyTorch loops on the same tensors.

    python tests/benchmarks/training_step.py                               # one CPU thread, about 15 minutes
    python tests/benchmarks/training_step.py --parts overhead --rounds 30
    python tests/benchmarks/training_step.py --device cuda                 # also whole epochs of 50,000 images
    python tests/benchmarks/training_step.py --device cuda --parts epochs --batch 512 --compile

Ours is a real `fit`. Between steps of its own it lets every rival make the same number of steps on the same images, so
that a step of ours and one of a rival are always neighbours in time; a step of ours lasts from where the rivals have
ended to where `fit` comes back for the next batch, and so holds all that the loop does. Times are CPU seconds with one
thread (wall seconds with more, or on a GPU, which is waited for); ratios are medians over rounds of the ratio within a
round. The raw loop of adversarial training is that of Rice, Wong and Kolter (ICML 2020): the network stays in train
mode while it is attacked, and only the input gets a gradient. Images are random: no cost here depends on them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from unittest import mock

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
from data_path import Pictures
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from torch.utils.data import DataLoader

from netprobe.data import Data
from netprobe.models import ARCHITECTURES
from netprobe.recipes import Recipe
from netprobe.training import Trained, fit, fitting
from netprobe.training.loop import Loop

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10
PGD_AT = f"pgd-at:eps={EPS},step_size={STEP},steps={STEPS}"
SHAPES = {"digits_cnn": (1, 8, 8), "mnist_cnn": (1, 28, 28)}
EPOCHS, CIFAR = 30, 50_000
Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]


def natural(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


def adversarial(model: nn.Module, x: Tensor, y: Tensor, *, train: bool = True, backward: bool = False) -> Tensor:
    """PGD-10, its gradients by `autograd.grad`, or by `backward`, which makes those of the weights as well."""
    model.train(train)
    z = (x + EPS * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(STEPS):
        z = z.detach().requires_grad_()
        loss = cross_entropy(model(z), y)
        if backward:
            loss.backward()
        gradient = z.grad if backward else torch.autograd.grad(loss, z)[0]
        z = torch.minimum(torch.maximum(z.detach() + STEP * gradient.sign(), x - EPS), x + EPS).clamp(0, 1)
    return natural(model.train(), z, y)


def fast(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """R+FGSM as Wong, Rice and Kolter wrote it: the network in train mode throughout."""
    z = (x + EPS * (2 * torch.rand_like(x) - 1)).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(natural(model, z, y), z)
    z = z.detach() + 1.25 * EPS * gradient.sign()
    return natural(model, torch.minimum(torch.maximum(z, x - EPS), x + EPS).clamp(0, 1), y)


def trades(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """TRADES with the clean logits made once, where the published code makes them again at every step."""
    model.eval()
    with torch.no_grad():
        clean = model(x).softmax(1)
    z = x + 0.001 * torch.randn_like(x)
    for _ in range(STEPS):
        z = z.detach().requires_grad_()
        spread = kl_div(model(z).log_softmax(1), clean, reduction="sum")
        z = z.detach() + EPS / 8 * torch.autograd.grad(spread, z)[0].sign()
        z = torch.minimum(torch.maximum(z, x - EPS), x + EPS).clamp(0, 1)
    logits, there = model.train()(x), model(z)
    return cross_entropy(logits, y) + 6 * kl_div(there.log_softmax(1), logits.softmax(1), reduction="batchmean")


class Bare:
    """The training loop that one writes in an afternoon, on tensors that are already where they are needed."""

    def __init__(self, objective: Objective, network: str, data: Data, device: str, layout: str, precision: str):
        memory_format = torch.channels_last if layout == "NHWC" else torch.contiguous_format
        self.objective, self.device, self.precision = objective, device, precision
        self.model = built(network, data).to(device, memory_format=memory_format).train()
        self.x, self.y = data.inputs.to(device, memory_format=memory_format), data.labels.to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, fused=True)

    def step(self, batch: Tensor) -> None:
        x, y = self.x[batch], self.y[batch]
        with torch.autocast(self.device, getattr(torch, self.precision), enabled=self.precision != "float32"):
            loss = self.objective(self.model, x, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Watched(Loop):
    """The loop of `fit`; after every `turn` steps of it, each rival makes as many on the same images."""

    def __init__(self, *arguments: object, rivals: dict[str, Bare], turn: int, seconds: dict[str, list[float]]):
        super().__init__(*arguments)
        self.rivals, self.turn, self.seconds = rivals, turn, seconds
        self.past: list[Tensor] = []
        self.since = self.clock()

    def _step(self, batch: Tensor) -> None:
        if len(self.past) == self.turn:
            self.seconds.setdefault("ours", []).append(self.clock() - self.since)
            for name, rival in self.rivals.items():
                self._let(name, rival)
            self.past = []
            self.since = self.clock()
        self.past.append(batch)
        super()._step(batch)

    def _let(self, name: str, rival: Bare) -> None:
        start = self.clock()
        for batch in self.past:
            rival.step(batch)
        self.seconds.setdefault(name, []).append(self.clock() - start)

    def clock(self) -> float:
        if self.data.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@dataclass(frozen=True)
class Case:
    """One training of ours, and the loops beside it: a title, an objective, a memory layout and a precision."""

    network: str
    batch: int
    defense: str
    layout: str
    precision: str
    rivals: tuple[tuple[str, Objective, str, str], ...]
    goals: dict[str, float] = field(default_factory=dict)  # ours / rival, at most

    def title(self, batch: int) -> str:
        name = self.defense.partition(":")[0]
        return f"{name}, {self.network}, batches of {batch}, ours in {self.precision} {self.layout}"


BARE = ("bare", natural, "NCHW", "float32")
BARE_LAST = ("bare, NHWC", natural, "NHWC", "float32")
RAW = ("raw", adversarial, "NCHW", "float32")
CONTRASTS = (
    ("raw, eval mode", partial(adversarial, train=False), "NCHW", "float32"),
    ("raw, loss.backward", partial(adversarial, backward=True), "NCHW", "float32"),
)
RAW_HALF = ("raw, NHWC, bfloat16", adversarial, "NHWC", "bfloat16")


def overhead(device: str) -> list[Case]:
    """Natural training: what the loop adds to the bare one, and what its default memory layout brings."""
    cases = []
    for network in ("digits_cnn", "mnist_cnn", "resnet20"):
        cases.append(Case(network, 128, "natural", "NCHW", "float32", (BARE,), {"bare": 1.03}))
        cases.append(Case(network, 128, "natural", "NHWC", "float32", (BARE, BARE_LAST), {"bare, NHWC": 1.03}))
    return cases


def attacks(device: str) -> list[Case]:
    """PGD-10 adversarial training; a GPU should give more than a core does."""
    small, half = (128, 1 / 3) if device == "cuda" else (16, 0.4)
    return [
        Case("resnet20", 128, PGD_AT, "NHWC", "float32", (RAW, *CONTRASTS), {"raw": 0.7}),
        Case("resnet20", 128, PGD_AT, "NHWC", "bfloat16", (RAW, RAW_HALF), {"raw": 0.4}),
        Case("resnet18", small, PGD_AT, "NHWC", "float32", (RAW, *CONTRASTS), {"raw": 0.95}),
        Case("resnet18", small, PGD_AT, "NHWC", "bfloat16", (RAW, RAW_HALF), {"raw": half}),
    ]


def defenses(device: str) -> list[Case]:
    """Other defenses, on ResNet-20."""
    rows = ((f"fast:eps={EPS}", fast), (f"trades:eps={EPS}", trades))
    return [
        Case("resnet20", 128, spec, "NHWC", precision, (("raw", objective, "NCHW", "float32"),))
        for spec, objective in rows
        for precision in ("float32", "bfloat16")
    ]


def built(network: str, data: Data) -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES[network](in_channels=data.shape[0])


def random_images(n: int, shape: tuple[int, ...]) -> Data:
    stored = torch.randint(256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Data(stored, torch.arange(n) % 10, tuple("0123456789"), "random")


def measure(case: Case, asked: argparse.Namespace) -> None:
    """A table of one case; its first round, in which everything is new, does not count."""
    turn = 10 if asked.device == "cuda" else 1
    batch = asked.batch or case.batch
    data = random_images(batch * (turn * (asked.rounds + 1) + 1), SHAPES.get(case.network, (3, 32, 32)))
    seconds: dict[str, list[float]] = {}
    rivals = {title: Bare(objective, case.network, data, asked.device, *how) for title, objective, *how in case.rivals}
    with mock.patch.object(fitting, "Loop", partial(Watched, rivals=rivals, turn=turn, seconds=seconds)):
        trained(case, data, recipe(asked, case, batch), asked.device)
    rounds = {name: np.array(times[1:]) / turn for name, times in seconds.items()}
    print(f"\n{case.title(batch)}, {asked.rounds} rounds")
    for name, times in rounds.items():
        print(f"  {name:22} {1000 * np.median(times):10,.1f} ms", end="" if name in rivals else "\n")
        if name in rivals:
            ratios = rounds["ours"] / times
            spread = f"({ratios.min():.2f} to {ratios.max():.2f})"
            print(f"   ours / this {np.median(ratios):.3f} {spread}{verdict(np.median(ratios), case.goals.get(name))}")


def trained(case: Case, data: Data, how: Recipe, device: str) -> Trained:
    return fit(case.defense, built(case.network, data), data, how, device=device, progress=False)


def recipe(asked: argparse.Namespace, case: Case, batch: int, **settings: object) -> Recipe:
    return Recipe(
        **{"epochs": 1, "batch_size": batch, "lr": 0.1, "weight_decay": 5e-4, "schedule": "constant", "validation": 0.0}
        | {"channels_last": case.layout == "NHWC", "precision": case.precision, "compile": asked.compile}
        | settings
    )


def verdict(ratio: float, goal: float | None, sign: int = -1) -> str:
    if goal is None:
        return ""
    return f"   goal {goal:.3g}: {'met' if sign * ratio >= sign * goal else 'missed'}"


def epochs(asked: argparse.Namespace) -> None:
    """Whole epochs of ResNet-18 on a data set of CIFAR's size: images/s, and the time of 30 epochs."""
    batch, data = asked.batch or 128, random_images(asked.images, (3, 32, 32))
    print(f"\nresnet18, second epoch of {len(data):,} images, batches of {batch}, crops and flips")
    plain = {name: plain_loop(data, batch, asked, name) for name in ("float32", "bfloat16")}
    for precision, speed in plain.items():
        name = f"DataLoader, {asked.workers} workers, {precision}"
        print(f"  {name:34} {speed:10,.0f} images/s")
    for spec, goal in (("natural", None), (f"fast:eps={EPS}", 75.0), (PGD_AT, 300.0)):
        goal = goal if asked.device == "cuda" else None  # they are for an H100
        case = Case("resnet18", batch, spec, "NHWC", "bfloat16", ())
        how = recipe(asked, case, batch, epochs=2, augment="crop-flip")
        speed = float(trained(case, data, how, asked.device).history["images_per_second"][-1])
        whole, name = EPOCHS * CIFAR / speed, f"ours, {spec.partition(':')[0]}, bfloat16"
        print(f"  {name:34} {speed:10,.0f} images/s, {EPOCHS} epochs of CIFAR {whole:9,.0f} s{verdict(whole, goal)}")
        if spec == "natural":
            print(f"    {speed / plain['float32']:.1f} x the plain loop{verdict(speed / plain['float32'], 5.0, 1)}")


def plain_loop(data: Data, batch: int, asked: argparse.Namespace, precision: str) -> float:
    """Images per second of natural training with torchvision's transforms in a DataLoader, after one epoch."""
    pictures = DataLoader(
        Pictures(data, len(data)),
        batch,
        shuffle=True,
        num_workers=asked.workers,
        pin_memory=asked.device == "cuda",
        persistent_workers=asked.workers > 0,
    )
    layout = "NCHW" if precision == "float32" else "NHWC"
    bare = Bare(natural, "resnet18", data.take(batch), asked.device, layout, precision)
    for _ in range(2):
        start = time.perf_counter()
        for x, y in pictures:
            bare.x, bare.y = (part.to(asked.device, non_blocking=True) for part in (x, y))
            bare.step(slice(None))
        if asked.device == "cuda":
            torch.cuda.synchronize()
    return len(data) / (time.perf_counter() - start)


PARTS = {"overhead": overhead, "attacks": attacks, "defenses": defenses}


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "epochs"), help="default: all that make sense there")
    parser.add_argument("--networks", nargs="+", help="only cases of these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, help="instead of every case's own")
    parser.add_argument("--images", type=int, default=CIFAR, help="of an epoch")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    where = torch.cuda.get_device_name() if asked.device == "cuda" else f"{asked.threads} CPU thread(s)"
    print(f"torch {torch.__version__}, {where}{', compiled' if asked.compile else ''}")
    for part in asked.parts or (*PARTS, *(["epochs"] if asked.device == "cuda" else [])):
        if part == "epochs":
            epochs(asked)
            continue
        for case in PARTS[part](asked.device):
            if not asked.networks or case.network in asked.networks:
                measure(case, asked)


if __name__ == "__main__":
    main()

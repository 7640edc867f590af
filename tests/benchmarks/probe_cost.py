"""What a probe costs: time and peak memory as ratios against named alternatives, measured in one run.

    python tests/benchmarks/probe_cost.py                          # ResNet-18 and ResNet-20, 1,000 images, one thread
    python tests/benchmarks/probe_cost.py --images 200 --rounds 2  # a quick look
    python tests/benchmarks/probe_cost.py --memory                 # peak memory at 1,000 and 4,000 images

The alternatives are
    bare    the paired forward passes alone: the same batches, clean and perturbed together, channels last, no hooks
    usual   the same analysis the usual way: hooks keep every activation as a numpy array, then numpy computes

Times are CPU seconds with one thread (wall seconds with more); every round measures all rows in turn, and a ratio is
the median over rounds of the ratio within a round. Perturbed images are clean ones plus a fixed pattern, so that no
attack is timed. The two ways must agree (PSR and Hoyer to 1e-5, exponents and shifts to 1e-6), or the script fails.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
from measuring import clocked
from torch import Tensor, nn

import netprobe as npb
from netprobe.devices import batch_size
from netprobe.metrics.power_law import fit, fit_range, numerical_rank
from netprobe.metrics.spectrum import ROUND_OFF
from netprobe.models import ARCHITECTURES

EVERYTHING = ["psr", "snr", "hoyer", "spectrum", "correlation"]
NORMS = ["psr", "snr", "hoyer"]
GOALS = {
    "resnet18": (("everything", "bare", 1.7), ("norms", "bare", 1.2), ("usual", "everything", 1.8)),
    "resnet20": (("everything", "bare", 2.0), ("norms", "bare", 1.2), ("usual", "everything", 3.0)),
}


def shifted(model: nn.Module, x: Tensor, y: Tensor, *, generator: object) -> Tensor:
    """A perturbation that costs nothing: a fixed pattern of size 8/255."""
    return (x + 8 / 255 * torch.sign(torch.sin(997 * x))).clamp(0, 1)


def images(count: int) -> npb.data.Data:
    """Random images of CIFAR's size."""
    x = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return npb.data.load((x, torch.arange(count) % 10))


def batches(model: nn.Module, data: npb.data.Data) -> Iterator[Tensor]:
    """The batches that `probe` chooses: clean and perturbed images in one tensor."""
    widest = max(site.units for site in npb.find_sites(model, data.inputs[:1]))
    return map(paired, data.batches(batch_size(data.shape, 2, torch.device("cpu"), widest)))


def paired(batch: npb.data.Batch) -> Tensor:
    """Its images and the perturbed ones, channels last."""
    both = torch.cat([batch.x, shifted(None, batch.x, batch.y, generator=None)])
    return both.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def bare(model: nn.Module, data: npb.data.Data) -> None:
    """The paired forward passes alone."""
    for both in batches(model, data):
        model(both)


def probed(metrics: list, **settings) -> Callable:
    """The streaming probe."""
    settings |= {"sites": "conv", "preflight": False, "progress": False}
    return lambda model, data: npb.probe(model, data, shifted, metrics, **settings)


@torch.no_grad()
def usual(model: nn.Module, data: npb.data.Data) -> dict[str, dict[str, np.ndarray]]:
    """Collect every activation as numpy, then compute: what people write today."""
    collected: dict[str, list] = {}
    handles, inputs = [], batches(model, data)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):

            def keep(_module, inputs, output, name=name):
                collected.setdefault(f"{name}:in", []).append(inputs[0].numpy().copy())
                collected.setdefault(name, []).append(output.numpy().copy())

            handles.append(module.register_forward_hook(keep))
    for both in inputs:
        model(both)
    for handle in handles:
        handle.remove()
    half = {name: [[part[: len(part) // 2] for part in parts], [part[len(part) // 2 :] for part in parts]]
            for name, parts in collected.items()}  # fmt: skip
    return {name: _analysed(*map(np.concatenate, pair), name.endswith(":in")) for name, pair in half.items()}


def _analysed(clean: np.ndarray, perturbed: np.ndarray, snr_only: bool) -> dict[str, np.ndarray]:
    a, d = (x.reshape(len(x), -1) for x in (clean, perturbed - clean))
    if snr_only:
        return {"snr": np.square(np.linalg.norm(a, axis=1) / np.linalg.norm(d, axis=1))}
    orders = (1, 2, np.inf)
    psr = np.stack([np.linalg.norm(d, p, axis=1) / np.linalg.norm(a, p, axis=1) for p in orders])
    rows = [np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]).astype(np.float64) for x in (clean, perturbed)]
    covariances = [np.cov(r.T) for r in rows]
    spectra = [np.linalg.eigvalsh(c)[::-1].clip(0) for c in covariances]
    alphas = [fit(s, *fit_range(numerical_rank(s, ROUND_OFF["float32"]))).alpha for s in spectra]
    shift = np.linalg.norm(np.corrcoef(rows[0].T) - np.corrcoef(rows[1].T))
    return {"psr": psr, "hoyer": np.array([_hoyer(x) for x in (clean, perturbed)]), "alpha": np.array(alphas),
            "shift": shift}  # fmt: skip


def _hoyer(x: np.ndarray) -> float:
    l1, l2 = np.abs(x).sum(1), np.square(x).sum(1)
    return float(np.mean(((l1**2 / l2) - 1) / (x.shape[1] - 1)))


def agree(tree, reference: dict[str, dict[str, np.ndarray]]) -> None:
    """The probe and the usual way give the same numbers."""
    (results,) = tree.children.values()
    for name, values in reference.items():
        if "snr" in values:
            np.testing.assert_allclose(results["snr"]["snr"].sel(site=name)[0], values["snr"], rtol=1e-4)
            continue
        np.testing.assert_allclose(results["psr"]["psr"].sel(site=name)[0], values["psr"], rtol=1e-5)
        np.testing.assert_allclose(results["hoyer"]["hoyer"].sel(site=name), values["hoyer"], rtol=1e-5)
        np.testing.assert_allclose(results["spectrum"]["alpha"].sel(site=name)[0], values["alpha"], rtol=1e-6)
        np.testing.assert_allclose(results["correlation"]["shift"].sel(site=name)[0], values["shift"], rtol=1e-6)


def timed(name: str, count: int, rounds: int) -> None:
    """Print the median ratios of one architecture."""
    torch.manual_seed(0)
    model, data = ARCHITECTURES[name]().eval(), images(count)
    ways = {
        "bare": bare,
        "everything": probed(EVERYTHING),
        "norms": probed(NORMS),
        "CKA alone": probed([npb.CKA()]),
        "unit spectra alone": probed([npb.Spectrum(definitions=("unit",))]),
        "usual": usual,
    }
    first, _ = clocked(ways["everything"], model, images(64))  # Numba compiles once on a machine: not counted below
    print(f"\n{name}: first probe in this process, of 64 images, {first:.1f} s")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        outcome = {}
        for way, run in ways.items():
            if number and way in ("CKA alone", "unit spectra alone"):
                continue  # rows of their own, long, measured once
            took, outcome[way] = clocked(run, model, data)
            seconds[way].append(took)
        agree(outcome["everything"], outcome["usual"])
    _table(name, count, seconds)


def _table(name: str, count: int, seconds: dict[str, list[float]]) -> None:
    print(f"\n{name}, {count} images, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    for way, measured in seconds.items():
        ratio = np.median([s / b for s, b in zip(measured, seconds["bare"], strict=False)])
        print(f"  {way:20} {np.median(measured):8.2f} s   {ratio:6.2f} x bare   ({len(measured)} rounds)")
    for one, other, goal in GOALS[name]:
        ratio = float(np.median(np.divide(seconds[one], seconds[other])))
        met = ratio >= goal if one == "usual" else ratio <= goal
        print(f"  {one + ' / ' + other:32} {ratio:6.2f}   goal {goal}: {'met' if met else 'missed'}")


def peak(name: str, way: str, count: int) -> float:
    """Peak memory of a fresh process that runs one way once, in MiB."""
    command = [sys.executable, __file__, "--peak-of", name, way, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _run_for_peak(name: str, way: str, count: int) -> None:
    ways = {"everything": probed(EVERYTHING), "usual": usual}
    ways[way](ARCHITECTURES[name]().eval(), images(count))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def remembered(names: list[str], small: int) -> None:
    """Peak memory at `small` and four times as many images; the usual way only where it fits the machine."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    for name in names:
        print(f"\n{name}, peak memory of the whole process, MiB")
        for way in ("everything", "usual"):
            one = peak(name, way, small)
            if 4 * one > available:
                print(f"  {way:12} {small} images {one:8.0f}   {4 * small} images: does not fit {available:.0f} MiB")
                continue
            four = peak(name, way, 4 * small)
            print(f"  {way:12} {small} images {one:8.0f}   {4 * small} images {four:8.0f}   ratio {four / one:.2f}")


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet20"], choices=sorted(GOALS))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--peak-of", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.peak_of:
        _run_for_peak(asked.peak_of[0], asked.peak_of[1], int(asked.peak_of[2]))
    elif asked.memory:
        remembered(asked.models, asked.images)
    else:
        for name in asked.models:
            timed(name, asked.images, asked.rounds)


if __name__ == "__main__":
    main()

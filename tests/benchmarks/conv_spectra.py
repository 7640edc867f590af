"""What singular values of convolutions cost: time as ratios against named alternatives, measured in one run.

    python tests/benchmarks/conv_spectra.py                       # all convolutions of ResNet-18 at 32x32, one thread
    python tests/benchmarks/conv_spectra.py --threads 2           # wall seconds
    python tests/benchmarks/conv_spectra.py --rounds 1 --no-dense # a quick look
    python tests/benchmarks/conv_spectra.py --large               # torchvision's ResNet-50 at 224x224

The alternatives are
    published   numpy.fft.fft2 of the kernel padded to the grid, then numpy.linalg.svd of every frequency; complex128,
                which has no stride: for strided layers it is timed on the stride-1 grid and left out of the totals
    dense       numpy.linalg.svd of the unrolled matrix, where that has at most 4096 rows or columns

Rows "double" and "single" are all values of the periodic convolution; "zero padding" is the norm, the distribution and
a certified bound for every value of the convolution as it is. Times are CPU seconds with one thread (wall seconds with
more); every round measures all rows in turn, and a ratio is the median over rounds of the ratio within a round. Ways
that should agree must, to 1e-10 and 5e-6 of the largest value, or the script fails. The zero-padded norms and
distributions are checked against block Lanczos and, where it fits, the dense matrix.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

if "--threads" not in sys.argv:  # before numpy and torch start their pools
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import numpy as np
import torch
from measuring import clocked

from netprobe.models import ARCHITECTURES
from netprobe.settings import SpectrumSettings
from netprobe.weights import conv_spectrum
from netprobe.weights.dense import dense_matrix, exact_values
from netprobe.weights.fourier import fourier_values
from netprobe.weights.krylov import extreme_values
from netprobe.weights.layers import choose, find_layers
from netprobe.weights.operators import ConvOperator, operator_of
from netprobe.weights.singular_values import SingularValues, distance
from netprobe.weights.solving import Solved, solve

# for ResNet-18 at 32x32, of which the larger layers profit most
GOALS = {1: {"double": 2.5, "single": 3.8}, 2: {"double": 4.5, "single": 5.5}}
ONE_BY_ONE = 100.0
ZERO_PADDING_SECONDS = 8.0
DENSE_LIMIT = 4096
ZERO_PADDED = SpectrumSettings(leading=1, progress=False)


@dataclass
class Layer:
    """One convolution: its operators, how often it occurs with these sizes, and seconds by way, a round each."""

    names: list[str]
    operator: ConvOperator
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def periodic(self) -> ConvOperator:
        """Under the published convention."""
        return self.operator.made_circular()

    @property
    def strided(self) -> bool:
        """Whether the published way does not apply."""
        return set(self.operator.stride) != {1}

    @property
    def one_by_one(self) -> bool:
        """Whether one SVD is enough."""
        return set(self.operator.kernel) == {1}

    def ratio(self, way: str, base: str = "published") -> float:
        """Median over rounds of base / way."""
        return float(np.median(np.divide(self.seconds[base], self.seconds[way])))


def layers_of(model: torch.nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """Its convolutions, one for each kind of sizes."""
    kinds: dict[tuple, Layer] = {}
    for layer in choose(find_layers(model, input_shape), "conv"):
        operator = operator_of(layer.of(model), layer.input_shape, layer.output_shape)
        key = (tuple(operator.weight.shape), operator.input_size, operator.stride)
        kinds.setdefault(key, Layer([], operator)).names.append(layer.name)
    return list(kinds.values())


def published(operator: ConvOperator) -> np.ndarray:
    """Singular values of the periodic convolution with stride 1, as published."""
    kernel = operator.weight.double().numpy().transpose(2, 3, 0, 1)
    symbol = np.fft.fft2(kernel, operator.input_size, axes=[0, 1])
    return np.linalg.svd(symbol, compute_uv=False)


def dense(operator: ConvOperator) -> np.ndarray:
    """Singular values of the unrolled matrix."""
    return np.linalg.svd(dense_matrix(operator.to(torch.float64)).numpy(), compute_uv=False)


def agree(layer: Layer, outcome: dict[str, object]) -> None:
    """All ways give the same values, each within its accuracy."""
    double, single = (outcome[way].expanded() for way in ("double", "single"))
    largest = double[0]
    np.testing.assert_allclose(single, double, rtol=0, atol=5e-6 * largest)
    if not layer.strided:
        reference = np.sort(outcome["published"], axis=None)[::-1]
        np.testing.assert_allclose(double, reference, rtol=0, atol=1e-10 * largest)


def check_zero_padding(layer: Layer, found: Solved, with_dense: bool) -> str:
    """The norm to 1e-5, the distribution to 1 %, the bounds above every value; returns what was seen."""
    operator = layer.operator
    if layer.one_by_one:
        true = exact_values(operator)
        norm = true.largest
    else:
        norm = extreme_values(operator.to(torch.float64), 1, tolerance=1e-8).leading[0]
        true = _exact(operator) if with_dense and operator.count <= DENSE_LIMIT else None
    off = abs(found.leading[0] / norm - 1)
    assert off < 1e-5, (layer.names, off)
    assert found.norm_upper >= norm
    seen = f"norm off by {off:.0e}, bound {found.norm_upper / norm - 1:.1%} above, W1 stated {found.values.error:.2%}"
    if true is None:
        return seen
    apart = distance(found.values, true) / true.largest
    assert apart < max(found.values.error, 1e-6) and apart < 0.01
    assert (found.upper >= true.at_levels()).all()
    return f"{seen}, true {apart:.2%}"


def _exact(operator: ConvOperator) -> SingularValues:
    return exact_values(operator, memory="8GiB")


def measure(layers: list[Layer], rounds: int, with_dense: bool) -> None:
    """Time every way on every layer, in turn."""
    ways: dict[str, Callable] = {
        "published": lambda layer: published(layer.operator),
        "double": lambda layer: fourier_values(layer.periodic, "double"),
        "single": lambda layer: fourier_values(layer.periodic, "single"),
        "zero padding": lambda layer: solve(layer.operator, ZERO_PADDED),
    }
    seen = {}
    for number in range(rounds):
        for layer in layers:
            outcome = {}
            for way, run in ways.items():
                took, outcome[way] = clocked(run, layer)
                layer.seconds.setdefault(way, []).append(took)
            agree(layer, outcome)
            if not number:
                if with_dense and layer.operator.count <= DENSE_LIMIT:
                    layer.seconds["dense"] = [clocked(dense, layer.operator)[0]]
                seen[layer.names[0]] = check_zero_padding(layer, outcome["zero padding"], with_dense)
    _table(layers, seen, rounds)


def _table(layers: list[Layer], seen: dict[str, str], rounds: int) -> None:
    threads = torch.get_num_threads()
    print(f"\nseconds a layer, {threads} thread(s), {rounds} rounds, torch {torch.__version__}, numpy {np.__version__}")
    print(
        f"  {'layer (and how many like it)':30} {'published':>9} {'double':>14} {'single':>14} {'zero pad':>9}"
        f" {'dense':>7}"
    )
    for layer in layers:
        operator = layer.operator
        shape = "x".join(map(str, operator.weight.shape))
        name = f"{shape} @{operator.input_size[0]} /{operator.stride[0]} ({len(layer.names)})"
        cells = [f"{np.median(layer.seconds['published']):9.3f}"]
        for way in ("double", "single"):
            cells.append(f"{np.median(layer.seconds[way]):7.4f} {layer.ratio(way):5.1f}x")
        cells.append(f"{np.median(layer.seconds['zero padding']):9.3f}")
        cells.append(f"{layer.seconds['dense'][0]:7.1f}" if "dense" in layer.seconds else "      -")
        print(f"  {name:30} {' '.join(cells)}   {seen[layer.names[0]]}")
    _goals(layers, threads)


def _total(layers: list[Layer], way: str) -> np.ndarray:
    """Seconds of each round for all of these, as often as they occur."""
    return np.sum([np.multiply(layer.seconds[way], len(layer.names)) for layer in layers], axis=0)


def _goals(layers: list[Layer], threads: int) -> None:
    comparable = [layer for layer in layers if not layer.strided]
    print(f"\nall {sum(len(layer.names) for layer in comparable)} convolutions of stride 1, published / ours")
    for way, goal in GOALS.get(threads, {}).items():
        ratio = float(np.median(_total(comparable, "published") / _total(comparable, way)))
        print(f"  {way:14} {ratio:6.2f}x   goal {goal}: {'met' if ratio >= goal else 'missed'}")
    for layer in layers:
        if layer.one_by_one:
            ratio = layer.ratio("double")
            met = "met" if ratio >= ONE_BY_ONE else "missed"
            print(f"  1x1, {layer.operator.weight.shape[1]} channels {ratio:6.0f}x   goal {ONE_BY_ONE:.0f}: {met}")
    seconds, number = float(np.median(_total(layers, "zero padding"))), sum(len(layer.names) for layer in layers)
    met = "met" if seconds <= ZERO_PADDING_SECONDS else "missed"
    print(f"  zero padding, all {number}: {seconds:.1f} s, goal {ZERO_PADDING_SECONDS}: {met}")
    for way in ("double", "single"):
        print(f"  {way}, all {number}, strided too: {np.median(_total(layers, way)):.2f} s")


def large() -> None:
    """The leading 20 values of every convolution of torchvision's ResNet-50 at 224x224, and one distribution."""
    import torchvision

    model = torchvision.models.resnet50().eval()
    start = time.perf_counter()
    found = conv_spectrum(model, (3, 224, 224), "conv")
    print(f"\nResNet-50 at 224x224, {found.sizes['layer']} convolutions, {torch.get_num_threads()} thread(s)")
    print(f"  everything {time.perf_counter() - start:.0f} s; methods {sorted(set(found['method'].values.tolist()))}")
    print(f"  leading values known to {float(found['value_error'].max()):.0e} of the largest or better;")
    print(f"  distributions to {float(found['density_error'].max()):.2%}")
    assert np.isfinite(found["leading"]).all()


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", choices=sorted(ARCHITECTURES))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-dense", action="store_true")
    parser.add_argument("--large", action="store_true", help="ResNet-50 at 224x224 instead")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    if asked.large:
        large()
        return
    model = ARCHITECTURES[asked.model]().eval().requires_grad_(False)
    measure(layers_of(model, (3, asked.size, asked.size)), asked.rounds, not asked.no_dense)


if __name__ == "__main__":
    main()

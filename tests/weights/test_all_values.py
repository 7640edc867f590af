"""Methods that give all singular values, against numpy's SVD of the explicitly unrolled matrix."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from unrolled import LAYERS, circulant, layer, operator, reference

from netprobe.errors import NetprobeError
from netprobe.weights import dense, fourier
from netprobe.weights.dense import exact_values
from netprobe.weights.fourier import Symbol, coarse_values, fourier_values, half_spectrum
from netprobe.weights.matrices import ERROR
from netprobe.weights.operators import ConvOperator, operator_of
from netprobe.weights.singular_values import SingularValues
from netprobe.weights.windows import disjoint

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


def divisible(name: str) -> bool:
    op = operator(*layer(name))
    return all(n % s == 0 for n, s in zip(op.input_size, op.stride, strict=True))


DIVISIBLE = [name for name in LAYERS if divisible(name)]
every_precision = pytest.mark.parametrize("precision", ERROR)


def assert_equal(found: SingularValues, expected: np.ndarray) -> None:
    """All values, within the stated error; but for single precision, those above 1e-3 of the largest to 1e-10."""
    values = found.expanded()
    assert len(values) == len(expected) == found.count
    np.testing.assert_allclose(values, expected, rtol=0, atol=found.error * expected[0])
    if found.error < ERROR["single"]:
        large = expected > 1e-3 * expected[0]
        np.testing.assert_allclose(values[large], expected[large], rtol=1e-10)


@every_precision
@pytest.mark.parametrize("name", LAYERS)
def test_exact_is_the_svd_of_the_unrolled_matrix(name, precision):
    module, shape = layer(name)
    expected = reference(module, shape)
    assert_equal(exact_values(operator(module, shape), precision), expected)


@every_precision
@pytest.mark.parametrize("name", DIVISIBLE)
def test_circular_is_the_svd_of_the_circulant_matrix(name, precision):
    op = operator(*layer(name)).made_circular()
    expected = np.linalg.svd(circulant(op), compute_uv=False)
    found = fourier_values(op, precision)
    assert_equal(found, expected)
    if precision != "single":  # 1e-12: rounding of an SVD of a few hundred rows, with room; strided layers too
        np.testing.assert_allclose(found.expanded(), expected, rtol=0, atol=1e-12 * expected[0])


@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith("circular") and "growing" not in name])
def test_circular_is_exact_for_layers_with_circular_padding(name):
    module, shape = layer(name)
    assert_equal(fourier_values(operator(module, shape)), reference(module, shape))


@pytest.mark.parametrize("name", ["plain", "strided", "1x1", "grouped", "linear"])
def test_float32_weights(name):
    """1e-5 relative: what float32 weights can mean; the arithmetic is float64."""
    module, shape = layer(name, torch.float32)
    found = exact_values(operator(module, shape)).expanded()
    expected = reference(module, shape)
    large = expected > 1e-3 * expected[0]
    np.testing.assert_allclose(found[large], expected[large], rtol=1e-5)


@pytest.mark.parametrize("by_lags", [True, False])
@pytest.mark.parametrize("name", ["plain", "more inputs than outputs", "strided", "dilated and strided", "grouped"])
def test_both_ways_to_the_gram_matrices(name, by_lags, monkeypatch):
    monkeypatch.setattr(Symbol, "by_lags", lambda self, frequencies: by_lags)
    op = operator(*layer(name)).made_circular()
    assert_equal(fourier_values(op), np.linalg.svd(circulant(op), compute_uv=False))


@pytest.mark.parametrize("size", [(1,), (6,), (7,), (4, 6), (5, 4), (1, 1), (2, 3, 4)])
def test_half_spectrum_counts_every_frequency_once(size):
    seen = np.zeros(size, int)
    for half in half_spectrum(size):
        for index in half.index.tolist():
            mirror = tuple(-i % n for i, n in zip(index, size, strict=True))
            assert (mirror == tuple(index)) == half.real
            seen[tuple(index)] += 1
            if not half.real:
                seen[mirror] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("name", ["plain", "strided", "depthwise"])
def test_threads_change_nothing_and_are_put_back(name, monkeypatch):
    monkeypatch.setattr(fourier, "CHUNK_BYTES", 1)  # one frequency at a time
    op, before = operator(*layer(name)).made_circular(), torch.get_num_threads()
    one, three = fourier_values(op, threads=1), fourier_values(op, threads=3)
    np.testing.assert_array_equal(one.values, three.values)
    assert torch.get_num_threads() == before
    done = []
    fourier_values(op, advance=done.append)
    assert sum(done) == np.prod(op.output_size)


def test_threads_are_put_back_after_an_error(monkeypatch):
    before = torch.get_num_threads()

    def broken(pieces):
        raise RuntimeError("no convergence")

    with pytest.raises(RuntimeError, match="no convergence"):
        list(fourier._mapped(broken, [1, 2, 3], 2))
    assert torch.get_num_threads() == before


def deficient(size: int = 6) -> ConvOperator:
    """A periodic operator of which half of the values are 0 and others are tiny: no Gram matrix resolves them."""
    weight = torch.randn(4, 4, 3, 3, dtype=torch.float64)
    weight[2] = weight[0] + weight[1]
    weight[3] = 1e-7 * weight[3]
    module = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular").double()
    module.weight.data = weight
    return operator_of(module, (4, size, size), (4, size, size))


def test_small_values_are_done_again_by_svd(monkeypatch):
    op = deficient()
    expected = np.linalg.svd(circulant(op), compute_uv=False)
    assert_equal(fourier_values(op), expected)
    assert_equal(exact_values(dataclasses.replace(op, circular=False)), _zero_padded(op))
    monkeypatch.setattr(fourier, "_refine", lambda symbol, found: None)
    assert np.abs(fourier_values(op).expanded() - expected).max() > 1e-10 * expected[0]  # without it they are wrong


def _zero_padded(op: ConvOperator) -> np.ndarray:
    module = nn.Conv2d(4, 4, 3, padding=1).double()
    module.weight.data = op.weight
    return reference(module, (4, *op.input_size))


def test_small_values_of_a_gram_matrix_come_from_its_eigenvectors(monkeypatch):
    op = dataclasses.replace(deficient(), circular=False)
    expected = _zero_padded(op)
    monkeypatch.setattr(dense, "_smallest", lambda block, number: torch.zeros(number))
    assert np.abs(exact_values(op).expanded() - expected).max() > 1e-10 * expected[0]  # without it they are wrong


def test_refuses_with_the_memory_it_would_need():
    op = operator(nn.Conv2d(64, 64, 3, padding=1), (64, 32, 32))
    need = 2 * 8 * 65536**2 / 2**30
    with pytest.raises(NetprobeError, match=f"all 65536 singular values need {need:.3g} GiB.*memory='1GiB'.*lanczos"):
        exact_values(op, memory="1GiB")


def test_the_fourier_method_needs_a_periodic_operator():
    with pytest.raises(NetprobeError, match="periodic"):
        fourier_values(operator(*layer("plain")))


@pytest.mark.parametrize("name", DIVISIBLE)
def test_coarse_values_are_upper_bounds_value_by_value(name):
    op = operator(*layer(name)).made_circular()
    expected = np.linalg.svd(circulant(op), compute_uv=False)
    slack = (coarse_values(op).expanded() - expected) / expected[0]
    # (1 + 1e-5)^1/2 at the top, (1e-5)^1/2 at the bottom
    assert (slack > 0).all() and slack[0] < 6e-6 and slack.max() < 4e-3


def test_windows_that_do_not_overlap():
    names = {name for name in LAYERS if disjoint(operator(*layer(name)))}
    one_by_one = {name for name in LAYERS if name.startswith(("1x1", "patches"))}
    assert names == one_by_one | {"one output", "transposed, grouped", "linear"}


def test_an_orthogonal_1x1_convolution_gives_ones():
    module = nn.Conv2d(6, 6, 1, bias=False).double()
    module.weight.data[..., 0, 0] = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    op = operator(module, (6, 4, 5))
    for found in (exact_values(op), fourier_values(op.made_circular())):
        np.testing.assert_allclose(found.expanded(), np.ones(120), rtol=1e-12)

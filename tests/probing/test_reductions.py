"""Reductions inside the hooks in torch, in pieces and compiled, against plain numpy."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from netprobe.probing import reductions
from netprobe.probing.reductions import ORDERS, compiling, condition_norms, location_hoyer

SHAPES = [(2, 3, 7), (4, 5, 1), (2, 1, 300)]
compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler: apt-get install g++")


def slow_norms(flat: torch.Tensor, orders: tuple[str, ...]) -> np.ndarray:
    x = flat.numpy()
    changes = [x[0], *(perturbed - x[0] for perturbed in x[1:])]
    norms = [[[np.linalg.norm(row, float(p)) for p in orders] for row in change] for change in changes]
    return np.stack(norms, 1)


def slow_hoyer(rows: torch.Tensor) -> np.ndarray:
    out = []
    for image in rows.transpose(0, 1).flatten(0, 1).numpy():
        spoken = [r for r in image if np.any(r)]
        values = [((np.abs(r).sum() / np.sqrt(np.sum(r**2))) ** 2 - 1) / (len(r) - 1) for r in spoken]
        out.append([np.mean(values) if values else np.nan, 1 - len(spoken) / len(image)])
    return np.array(out).reshape(rows.shape[1], rows.shape[0], 2)


def silenced(shape: tuple[int, ...]) -> torch.Tensor:
    """Random rows; some locations, and one whole image, are silent."""
    rows = torch.randn(*shape, dtype=torch.float64)
    rows[0, 0, ::2] = 0
    rows[-1, -1] = 0
    return rows


@pytest.mark.parametrize("chunk", [1, 10, reductions.CHUNK])
@pytest.mark.parametrize("orders", [ORDERS, ("2",), ("inf", "1")])
@pytest.mark.parametrize("shape", SHAPES)
def test_norms(shape, orders, chunk, monkeypatch):
    monkeypatch.setattr(reductions, "CHUNK", chunk)
    flat = torch.randn(*shape, dtype=torch.float64)
    np.testing.assert_allclose(condition_norms(flat, orders), slow_norms(flat, orders), rtol=1e-12)


@pytest.mark.parametrize("chunk", [1, 10, reductions.CHUNK])
def test_sparsity(chunk, monkeypatch):
    monkeypatch.setattr(reductions, "CHUNK", chunk)
    rows = silenced((2, 3, 5, 4))
    np.testing.assert_allclose(location_hoyer(rows), slow_hoyer(rows), rtol=1e-12)


def test_one_channel_has_no_sparsity():
    assert location_hoyer(torch.rand(2, 2, 3, 1))[..., 0].isnan().all()


def test_fusing_ends_with_its_block():
    with pytest.raises(RuntimeError, match="boom"), compiling(True):
        assert reductions._fusing
        raise RuntimeError("boom")
    assert not reductions._fusing


@compiler
@pytest.mark.slow
def test_compiled_reductions_equal_the_eager_ones():
    for shape in [*SHAPES, (3, 4, 40_000)]:
        flat = torch.randn(*shape, dtype=torch.float64)
        with compiling(True):
            ours = condition_norms(flat), condition_norms(flat, ("2",))
        torch.testing.assert_close(ours, (condition_norms(flat), condition_norms(flat, ("2",))), rtol=1e-12, atol=0)
    for shape in [(1, 3, 5, 4), (2, 2, 1, 9), (2, 4, 64, 16), (3, 2, 3, 1)]:
        rows = silenced(shape)
        with compiling(True):
            ours = location_hoyer(rows)
        torch.testing.assert_close(ours, location_hoyer(rows), rtol=1e-12, atol=0, equal_nan=True)

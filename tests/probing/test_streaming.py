"""Streaming moments and tables against numpy on all rows at once: any batching, order and merging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from netprobe.probing import streaming
from netprobe.probing.streaming import ImageTable, Moments, add_gram, symmetric

RTOL = 1e-10  # float64 rounding, 2e-16, times the square of 1000 standard deviations of drift


def drifting(n: int = 203, size: int = 5, at: float = 1000.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Correlated rows around `at` whose mean wanders by ten standard deviations."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) + at
    return torch.tensor(rows + np.linspace(-5, 5, n)[:, None], dtype=dtype)


def moments(*batches: Tensor) -> Moments:
    result = Moments(batches[0].shape[1])
    for batch in batches:
        result.update(batch)
    return result


def assert_moments(found: Moments, rows: Tensor, rtol: float = RTOL) -> None:
    truth = rows.double().numpy()
    assert found.count == len(truth)
    np.testing.assert_allclose(found.mean, truth.mean(0), rtol=1e-13)
    expected = np.cov(truth, rowvar=False)
    np.testing.assert_allclose(found.covariance, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_moments_by_hand():
    # rows (1, 2), (3, 6): mean (2, 4); deviations (-1, -2), (1, 2): products 2, 4, 8 over n - 1 = 1
    found = moments(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert found.mean.tolist() == [2, 4]
    assert found.covariance.tolist() == [[2, 4], [4, 8]]


@pytest.mark.parametrize("sizes", [(203,), (1,) * 203, (100, 3, 100), (2, 201), (0, 203, 0)], ids=len)
def test_any_batching(sizes):
    rows = drifting()
    assert_moments(moments(*rows.split(sizes)), rows)


def test_any_order():
    rows = drifting()
    batches = rows.split(29)
    assert_moments(moments(*batches[::-1]), rows)
    assert_moments(moments(rows[torch.randperm(203)]), rows)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_rows_are_taken_a_chunk_at_a_time(monkeypatch, chunk):
    monkeypatch.setattr(streaming, "CHUNK", chunk)
    rows = drifting()
    assert_moments(moments(*rows.split(50)), rows)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_merging_shards_is_one_pass(order):
    rows = drifting()
    parts = [moments(*part.split(11)) for part in rows.split((70, 1, 132))]
    total = Moments(5)
    for i in order:
        total.merge(parts[i])
    assert_moments(total, rows)


def test_merging_leaves_the_other_part_alone():
    first, second = (moments(part) for part in drifting().split((100, 103)))
    before = {k: v.clone() for k, v in second.state().items()}
    first.merge(second).update(drifting()[:9])
    Moments(5).merge(second).update(drifting()[:9])
    torch.testing.assert_close(second.state(), before, rtol=0, atol=0)


def test_merging_with_an_empty_part_changes_nothing():
    rows = drifting()
    full = moments(rows)
    before = {k: v.clone() for k, v in full.state().items()}
    torch.testing.assert_close(full.merge(Moments(5)).state(), before, rtol=0, atol=0)
    torch.testing.assert_close(Moments(5).merge(full).state(), before, rtol=0, atol=0)
    assert Moments(5).merge(Moments(5)).count == 0


def test_taking_a_part_out_again():
    rows = drifting()
    inside, rest = moments(rows[:40]), moments(rows[40:])
    whole = moments(rows)
    assert_moments(whole.without(inside), rows[40:])
    assert_moments(whole.without(rest), rows[:40])
    assert_moments(whole, rows)


def test_far_from_zero_float32_input_loses_nothing_but_its_own_rounding():
    rows = drifting(dtype=torch.float32)
    assert_moments(moments(*rows.split(20)), rows)


def test_sums_of_squares_about_zero_would_fail_here():
    """The naive formula on the same data is off by more than the tolerance, so the tolerance sees it."""
    rows = drifting(at=1e6)
    found = moments(*rows.split(20))
    assert_moments(found, rows)
    naive = (rows.T @ rows - len(rows) * torch.outer(rows.mean(0), rows.mean(0))) / (len(rows) - 1)
    assert ((naive - found.covariance).abs() > 100 * RTOL * found.covariance.abs().max()).any()


def test_float32_agrees_with_float64():
    rows = drifting(at=0.0)
    expected = moments(rows).covariance
    # 1e-5: a float32 of size 10 is off by at most 5e-7, the covariance is of size 10
    torch.testing.assert_close(moments(rows.float()).covariance, expected, rtol=1e-5, atol=1e-5)


def test_any_strides():
    rows = drifting(n=40)
    image = rows.T.reshape(5, 8, 5).transpose(1, 2)  # neither order of axes is contiguous
    assert_moments(moments(image.reshape(5, -1).T), image.reshape(5, -1).T)
    assert_moments(moments(rows.T.contiguous().T, rows[::2]), torch.cat([rows, rows[::2]]))


def test_too_few_rows_are_undefined():
    assert Moments(3).mean.isnan().all()
    assert Moments(3).covariance.isnan().all()
    assert moments(torch.ones(1, 3)).mean.tolist() == [1, 1, 1]
    assert moments(torch.ones(1, 3)).covariance.isnan().all()


def test_state_does_not_grow():
    sizes = {n: sum(t.numel() for t in moments(*drifting(n).split(7)).state().values()) for n in (14, 700)}
    assert sizes[14] == sizes[700]


@pytest.mark.parametrize("seen", [0, 30])
def test_going_on_from_a_stored_state_is_exact(seen):
    rows = drifting()
    through = moments(rows[:seen], *rows[seen:].split(10))
    stored = moments(rows[:seen])
    copy = Moments.restore({k: v.clone() for k, v in stored.state().items()})
    for batch in rows[seen:].split(10):
        copy.update(batch)
    torch.testing.assert_close(copy.state(), through.state(), rtol=0, atol=0)


def test_restored_moments_share_no_memory_with_the_state():
    state = moments(drifting()).state()
    before = {k: v.clone() for k, v in state.items()}
    Moments.restore(state).update(drifting())
    torch.testing.assert_close(state, before, rtol=0, atol=0)


def test_one_channel():
    assert_moments_one = moments(torch.tensor([[1.0], [2.0], [4.0]]))
    # mean 7/3, deviations -4/3, -1/3, 5/3: (16 + 1 + 25) / 9 / 2 = 7/3
    np.testing.assert_allclose(assert_moments_one.covariance, [[7 / 3]], rtol=1e-15)


@pytest.mark.parametrize("n", [1, 4, 33])
def test_gram_in_one_triangle(n):
    rows = torch.randn(n, 6, dtype=torch.float64)
    lower = torch.zeros(6, 6, dtype=torch.float64)
    add_gram(lower, rows)
    add_gram(lower, rows)
    torch.testing.assert_close(symmetric(lower), 2 * rows.T @ rows, rtol=1e-14, atol=1e-14)


# ------------------------------------------------------------------------------------------------- tables


def table(*batches: tuple[list[int], list[float]]) -> ImageTable:
    result = ImageTable()
    for images, values in batches:
        result.update(torch.tensor(images), torch.tensor(values, dtype=torch.float32))
    return result


def test_table_reads_by_image_whatever_the_order():
    found = table(([5, 2], [0.5, 0.2]), ([9], [0.9]), ([0, 7], [0.0, 0.7]))
    images, values = found.read()
    assert images.tolist() == [0, 2, 5, 7, 9]
    np.testing.assert_array_equal(values, np.float32([0.0, 0.2, 0.5, 0.7, 0.9]).astype(np.float64))


def test_table_merges_and_restores():
    whole = table(([1, 0], [0.1, 0.0]), ([2], [0.2]))
    merged = table(([2], [0.2])).merge(table(([1, 0], [0.1, 0.0])))
    merged.merge(ImageTable())
    again = ImageTable.restore(merged.state())
    for found in (merged, again, ImageTable().merge(whole)):
        for one, other in zip(found.read(), whole.read(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_empty_table():
    images, values = ImageTable.restore(ImageTable().state()).read()
    assert len(images) == len(values) == 0

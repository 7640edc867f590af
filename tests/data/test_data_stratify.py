"""The choice of samples: sorted, repeatable, nested, and proportional like Webster's apportionment."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from netprobe.data import stratified
from netprobe.errors import NetprobeError

UNEVEN = np.random.default_rng(1).permutation(np.repeat([0, 2, 3, 7], [60, 25, 10, 5]))
EVEN = np.tile(np.arange(10), 7)


def seats(sizes: np.ndarray, n: int) -> np.ndarray:
    """Webster's apportionment, one seat at a time to the largest N_k / (2 s_k + 1)."""
    given = np.zeros(len(sizes), int)
    for _ in range(n):
        given[np.argmax(sizes / (2 * given + 1))] += 1
    return given


@pytest.mark.parametrize("n", [1, 2, 7, 10, 33, 70])
def test_equal_classes_get_equal_shares(n: int) -> None:
    counts = np.bincount(EVEN[stratified(EVEN, n)], minlength=10)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1


# 1, 3, 27: no two classes have equal quotients there, so that the apportionment is unique.
@pytest.mark.parametrize("n", [1, 3, 27, 100])
def test_unequal_classes_keep_their_share(n: int) -> None:
    _, klass, sizes = np.unique(UNEVEN, return_inverse=True, return_counts=True)
    assert np.bincount(klass[stratified(UNEVEN, n)], minlength=4).tolist() == seats(sizes, n).tolist()


@pytest.mark.parametrize("labels", [EVEN, UNEVEN])
def test_order_is_kept_and_nothing_is_taken_twice(labels: np.ndarray) -> None:
    for n in range(1, len(labels) + 1):
        assert (np.diff(stratified(labels, n, seed=4)) > 0).all()
    assert np.array_equal(stratified(labels, len(labels)), np.arange(len(labels)))


@pytest.mark.parametrize("labels", [EVEN, UNEVEN])
def test_a_smaller_choice_is_contained_in_a_larger_one(labels: np.ndarray) -> None:
    choices = [set(stratified(labels, n, seed=3).tolist()) for n in range(1, len(labels))]
    assert all(small < large for small, large in pairwise(choices))


def test_the_seed_decides_and_the_global_state_does_not() -> None:
    first = stratified(EVEN, 20, seed=0)
    np.random.seed(123)
    before = np.random.get_state()[1].copy()
    assert np.array_equal(stratified(EVEN, 20, seed=0), first)
    assert np.array_equal(np.random.get_state()[1], before)
    assert not np.array_equal(stratified(EVEN, 20, seed=1), first)


def test_ties_do_not_always_favour_the_first_classes() -> None:
    chosen = {int(EVEN[stratified(EVEN, 1, seed=seed)[0]]) for seed in range(100)}
    assert len(chosen) == 10  # each is missed with probability 0.9^100 = 3e-5


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", None])
def test_a_limit_that_is_no_number_of_samples_is_an_error(n: object) -> None:
    with pytest.raises(NetprobeError, match="limit must be a whole number"):
        stratified(EVEN, n)


def test_a_limit_above_the_number_of_samples_names_it() -> None:
    with pytest.raises(NetprobeError, match="limit=71 but there are 70 samples"):
        stratified(EVEN, 71)

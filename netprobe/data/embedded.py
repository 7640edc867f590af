"""The data set that is always there: scikit-learn's handwritten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from netprobe.data.source import Source, choose_split

HELD_OUT = 5  # one in five
LEVELS = 16  # of grey: pixels count 0..16


def digits(root: Path, split: str | None, *, download: bool = False) -> Source:
    """1,797 real digits of 8x8 pixels (UCI optdigits, through scikit-learn), nothing to fetch.

    Images (N, 1, 8, 8), pixel / 16. "test" is the last fifth (rounded down) of every class in scikit-learn's
    order, 355 images; "train" is the rest, 1,442. The original order goes writer by writer, so most test
    digits come from writers that the training part has not seen. `root` and `download` are accepted, like by
    every named set.
    """
    from sklearn.datasets import load_digits

    chosen = choose_split(split, ("train", "test"), "digits")
    bunch = load_digits()
    members = np.flatnonzero(last_of_every_class(bunch.target) == (chosen == "test"))
    pixels = (bunch.images[members, None] / LEVELS).astype(np.float32)
    names = tuple(map(str, bunch.target_names))
    return Source("digits", chosen, bunch.target[members], names, lambda index: torch.from_numpy(pixels[index]))


def last_of_every_class(labels: np.ndarray) -> np.ndarray:
    """(N,) booleans: true for the last N_k // 5 members of every class k."""
    last = np.zeros(len(labels), bool)
    for klass in np.unique(labels):
        members = np.flatnonzero(labels == klass)
        last[members[len(members) - len(members) // HELD_OUT :]] = True
    return last

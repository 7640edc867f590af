"""How many threads the linear algebra of small matrices takes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from threadpoolctl import ThreadpoolController


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS thread inside, torch's and numpy's; the settings are put back.

    More do nothing for matrices of up to a thousand rows, and the pools of both libraries spin while the other works:
    on two cores the SVD of a 1x1 kernel of 256 x 128 channels took up to twenty times as long.
    """
    before = torch.get_num_threads()
    with _libraries().limit(limits=1, user_api="blas"):
        try:
            torch.set_num_threads(1)
            yield
        finally:
            torch.set_num_threads(before)


@functools.cache
def _libraries() -> ThreadpoolController:
    """Looking for the loaded BLAS libraries takes longer than a small spectrum."""
    return ThreadpoolController()

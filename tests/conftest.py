"""Fixtures every test may use."""

from __future__ import annotations

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: Ctrl-C is tested all the same
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:  # before numpy and torch start a pool of threads in every worker
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; the test skips, saying how to get it, when there is none."""
    root = os.environ.get("NETPROBE_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real data: set NETPROBE_DATA to a folder of data sets (README, section Data)")
    return Path(root)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same global random state."""
    torch.manual_seed(0)

"""Synthetic results for the plots; every figure is closed after its test."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import xarray as xr
from synthetic_results import synthetic_results


@pytest.fixture(scope="session")
def results() -> xr.DataTree:
    return synthetic_results(maps=2)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")

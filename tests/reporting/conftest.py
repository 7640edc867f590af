"""Results with names that try to break out of the page, and the page made of them, once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr
from synthetic_results import synthetic_results

from netprobe.reporting import report

HOSTILE = ("<script>alert(1)<", "'\"><img src=x onerror=alert(2)>")
ELSEWHERE = ("batch_norm", "batch_norm_drift", "followed")
"""On pages of their own in other tests; with all, one is too large."""
SITES = ("conv1", 'a"b', "</title><script>x", "{{ 7*7 }}", "layer.$x$", "fc")


@pytest.fixture(scope="session")
def results() -> xr.DataTree:
    return synthetic_results(images=60)


@pytest.fixture(scope="session")
def hostile() -> xr.DataTree:
    everything = synthetic_results(HOSTILE, sites=SITES, images=8, maps=1)
    return everything.filter(lambda node: node.name not in ELSEWHERE)


@pytest.fixture(scope="session")
def page(hostile, tmp_path_factory) -> Path:
    return report(hostile, tmp_path_factory.mktemp("page") / "report.html", complete='full "<b>.nc')

"""Results compared number by number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from netprobe.testing.law import demand


def variables(tree: xr.DataTree) -> Iterator[tuple[str, xr.DataArray]]:
    """Every data variable of every group, by path."""
    for node in tree.subtree:
        for name, values in node.data_vars.items():
            yield f"{node.path}/{name}", values


def assert_same(actual: xr.DataTree, expected: xr.DataTree, rtol: float = 0.0) -> None:
    """The same variables, dims and coordinates, and numbers that agree to `rtol` of the variable's largest."""
    names, wanted_names = (sorted(path for path, _ in variables(tree)) for tree in (actual, expected))
    demand(names == wanted_names, f"variables {names}, not {wanted_names}")
    for path, wanted in variables(expected):
        found = actual[path]
        told = [f"dims {values.dims} of {values.dtype}" for values in (found, wanted)]
        demand(told[0] == told[1], f"{path} has {told[0]}, not {told[1]}")
        for name in wanted.coords:
            np.testing.assert_array_equal(found[name].values, wanted[name].values, err_msg=f"{path}: {name}")
        if wanted.dtype.kind not in "fi":
            demand(found.values.tolist() == wanted.values.tolist(), f"{path} differs")
        else:
            assert_close(found.values, wanted.values, rtol, path)


def assert_close(found: np.ndarray, wanted: np.ndarray, rtol: float, what: str) -> None:
    """Numbers that agree to `rtol` of themselves and of the largest finite one; NaN with NaN."""
    largest = np.max(np.abs(wanted), initial=0, where=np.isfinite(wanted))
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * largest, err_msg=what)

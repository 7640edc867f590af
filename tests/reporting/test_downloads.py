"""What the page gives away holds the numbers of the results."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic_results import SITES

from netprobe.plots.reading import measured
from netprobe.reporting.downloads import csv, estimates_of, netcdf
from netprobe.reporting.sections import SECTIONS
from netprobe.reporting.tables import numbers_table
from netprobe.store import open_results


def table(results, metric: str, *columns: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(csv(measured(results, metric), columns)), dtype={"norm": str})


def test_csv_has_a_line_for_each_label_with_intervals_beside(results):
    found = table(results, "psr", "psr_db", "psr_median")
    assert len(found) == 3 * 4 * 3 * len(SITES)
    one = found.query("model == 'robust' and perturbation == 'noise' and norm == 'inf' and site == 'fc'").iloc[0]
    data = results["robust"]["psr"].to_dataset().sel(perturbation="noise", norm="inf", site="fc")
    assert one["psr_db"] == pytest.approx(data["psr_db"].item())
    assert [one["psr_db_low"], one["psr_db_high"]] == pytest.approx(data["psr_db_interval"].values)
    assert one["family"] == "Gaussian noise" and one["eps"] == 0.1


def test_csv_flattens_bands_and_keeps_dims_apart(results):
    found = table(results, "spectrum", "alpha", "alpha_band", "r2")
    assert {"alpha_low", "alpha_high", "alpha_band_low", "alpha_band_high", "definition"} <= set(found)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.metric)
def test_every_section_has_its_csv_and_its_table(results, section):
    found = table(results, section.metric, *section.columns)
    assert [column for column in section.columns if not {column, f"{column}_low"} & set(found)] == []
    shown = numbers_table(measured(results, section.metric), section.numbers)
    assert shown.models == ["natural", "robust", "trades"]
    assert all(len(cells) == 3 for _, cells in shown.rows)


def test_the_table_shows_what_is_drawn(results):
    shown = numbers_table(measured(results, "psr"), next(s.numbers for s in SECTIONS if s.metric == "psr"))
    data = results["natural"]["psr"].to_dataset().sel(perturbation="pgd@0.0314", norm="2", site="fc")
    name, cells = shown.rows[-1]
    low, high = data["psr_db_interval"].values
    assert name == "fc"
    assert cells[0] == f"{data['psr_db'].item():.1f} [{low:.1f}, {high:.1f}]"
    assert shown.caption == "Perturbation-to-signal ratio (dB), pgd ε=8/255"


def test_images_are_named_by_their_place_in_the_data(results):
    shown = numbers_table(measured(results, "gradcam"), next(s.numbers for s in SECTIONS if s.metric == "gradcam"))
    assert [name for name, _ in shown.rows] == [f"#{7 + k}" for k in range(6)]
    bare = measured(results["robust"]["gradcam"].to_dataset().drop_vars("index"), "gradcam")
    assert numbers_table(bare, next(s.numbers for s in SECTIONS if s.metric == "gradcam")).rows[0][0] == "#0"


def test_netcdf_is_the_results(results, tmp_path):
    one = xr.DataTree.from_dict({"/m/psr": results["robust"]["psr"].to_dataset()})
    (tmp_path / "results.nc").write_bytes(netcdf(one))
    assert open_results(tmp_path / "results.nc").identical(one)


def test_the_estimates_are_kept(results):
    slim = estimates_of(results)
    assert "psr" not in slim["robust"]["psr"] and "image" not in slim["robust"]["psr"].dims
    assert np.array_equal(slim["robust"]["psr"]["psr_db"], results["robust"]["psr"]["psr_db"])
    assert slim.attrs == results.attrs

from __future__ import annotations

import re

import pytest
import xarray as xr

from netprobe.errors import NetprobeError
from netprobe.preflight import Finding, Findings

NOTE = Finding("note", "range", "All is <b>well</b>.", "Go on.")
ERROR = Finding("error", "labels", "Labels go from 1 to 10. " * 9, "Subtract 1.")
WARNING = Finding("warning", "accuracy", "At chance.", "Load it.")


def test_worst_first():
    findings = Findings([NOTE, WARNING, ERROR], ["a", "b", "c", "d"])
    assert list(findings) == [ERROR, WARNING, NOTE]
    assert list(findings.errors) == [ERROR] and list(findings.warnings) == [WARNING]
    assert list(findings.of("note", "error")) == [ERROR, NOTE]
    assert repr(findings) == "Findings(1 error, 1 warning, 1 note in 4 checks)"


def test_none_is_false():
    assert not Findings([]) and Findings([NOTE])
    assert str(Findings([], ["a"])) == "nothing found in 1 checks"


def test_the_table_wraps_and_keeps_every_word():
    text = str(Findings([NOTE, ERROR], ["a"]))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("Labels go from 1 to 10.") + text.count("Labels go from 1 to\n") <= 9
    assert re.sub(r"\s+", " ", text).count("Labels go from 1 to 10.") == 9
    assert "-> Subtract 1." in text


def test_html_is_escaped():
    page = Findings([NOTE])._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;well" in page and "<caption>" in page


def test_strict_lists_errors_and_warnings_but_not_notes():
    with pytest.raises(NetprobeError, match=r"(?s)labels.*Subtract 1.*accuracy.*Load it") as caught:
        Findings([NOTE, WARNING, ERROR]).raise_if(True)
    assert "Go on" not in str(caught.value)
    notes = Findings([NOTE])
    assert notes.raise_if(True) is notes
    assert len(Findings([ERROR]).raise_if(False)) == 1


def test_unknown_severity():
    with pytest.raises(NetprobeError, match="did you mean 'error'"):
        Finding("errors", "a", "b", "c")


@pytest.mark.parametrize("findings", [Findings([NOTE, ERROR]), Findings([])])
def test_dataset_survives_netcdf(findings, tmp_path):
    tree = xr.DataTree.from_dict({"/preflight": findings.to_dataset("mine")})
    tree.to_netcdf(tmp_path / "found.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "found.nc", engine="h5netcdf") as stored:
        stored = stored["preflight"].to_dataset().load()
    assert stored.sizes["finding"] == len(findings)
    assert [str(s) for s in stored["severity"].values] == [f.severity for f in findings]
    assert [str(s) for s in stored["evidence"].values] == [f.evidence for f in findings]
    assert [str(s) for s in stored["model"].values] == ["mine"] * len(findings)
    assert {"long_name", "units", "definition"} <= stored["remedy"].attrs.keys()

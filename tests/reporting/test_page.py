"""The page as a document: structure, escaping, what it carries, what it says is missing."""

from __future__ import annotations

import base64
import itertools
import json
import re
from html.parser import HTMLParser

import pytest
import xarray as xr
from synthetic_results import synthetic_results

from netprobe.errors import NetprobeError
from netprobe.reporting import page as page_module
from netprobe.reporting import report
from netprobe.reporting.page import flat
from netprobe.store import open_results


class Document(HTMLParser):
    """Elements in order, as (tag, attributes), and the text of the whole."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def only(results: xr.DataTree, *metrics: str) -> xr.DataTree:
    """The results of some metrics, so that few plots are drawn."""
    kept = {path: data for path, data in results.to_dict().items() if path.endswith(("/", "/preflight", *metrics))}
    return xr.DataTree.from_dict(kept)


@pytest.fixture(scope="module")
def html(page) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(html) -> Document:
    return Document(html)


def test_nothing_is_fetched(html, document):
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"data:[\w/.;=,+-]+", "", html))
    addresses = [value for _, attrs in document.elements for name, value in attrs.items() if name in ("href", "src")]
    assert all(address.startswith(("#", "data:", "./")) for address in addresses)
    assert not {tag for tag, _ in document.elements} & {"script", "link", "iframe", "object", "embed", "base", "form"}


def test_names_cannot_break_out(html, document):
    tags = {tag for tag, _ in document.elements}
    assert "script" not in tags and "img" not in tags
    assert not [name for _, attrs in document.elements for name in attrs if name.startswith("on")]
    assert "<script>alert(1)<" in document.text and "{{ 7*7 }}" in document.text and "49" not in document.text.split()
    assert html.count("</title>") == 1 + html.count("<svg")
    assert "full &#34;&lt;b&gt;.nc" in html and 'href="./full%20%22%3Cb%3E.nc"' in html


def test_it_forbids_itself_scripts_and_requests(document):
    (policy,) = [m["content"] for m in document.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_references_lead_somewhere(document):
    ids = [attrs["id"] for _, attrs in document.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a in document.elements if a.get("href", "").startswith("#")}
    targets |= {name for _, a in document.elements for name in a.get("aria-labelledby", "").split()}
    assert targets <= set(ids)


def test_headings_and_landmarks_are_in_order(document):
    levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert document.all("html")[0]["lang"] == "en"
    assert len(document.all("main")) == 1 and document.all("a")[0]["href"] == "#main"
    first_section = document.all("section")[0]
    assert first_section["id"] == "verdict"


def test_tables_are_readable_aloud(document):
    assert len(document.all("caption")) == len(document.all("table"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in document.all("th"))
    scrolling = [attrs for attrs in document.all("div") if "scroll" in attrs.get("class", "")]
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" for attrs in scrolling)


def test_figures_are_described(document):
    figures = document.all("svg")
    assert len(figures) == 2 * len(document.all("figure")) > 20
    assert all(attrs["role"] == "img" and attrs["aria-labelledby"] for attrs in figures)


def test_it_is_small_and_carries_the_results(page, html, hostile, tmp_path):
    assert page.stat().st_size < 5_000_000
    (uri,) = re.findall(r'href="data:application/x-netcdf;base64,([^"]+)"', html)
    (tmp_path / "results.nc").write_bytes(base64.b64decode(uri))
    assert open_results(tmp_path / "results.nc").equals(hostile)
    tables = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]+)" download="(\w+).csv"', html)
    assert {name for _, name in tables} >= {"psr", "snr", "spectrum", "accuracy"}
    assert all(base64.b64decode(content).startswith(b"model,") for content, _ in tables)


def test_equal_results_give_equal_bytes(hostile, tmp_path):
    small = only(hostile, "accuracy")
    assert report(small, tmp_path / "a.html").read_bytes() == report(small, tmp_path / "b.html").read_bytes()


def test_what_does_not_fit_is_left_out_and_said(hostile, tmp_path, monkeypatch):
    tree = only(hostile, "accuracy", "hoyer")
    full = report(tree, tmp_path / "r.html").stat().st_size
    for largest, said, carried in ((full - 1, "lacks the variables", 1), (1000, "too large to be carried", 0)):
        monkeypatch.setattr(page_module, "LARGEST", largest)
        html = report(tree, tmp_path / "r.html", complete=tmp_path / "all.nc").read_text()
        assert said in html
        assert 'href="./all.nc"' in html
        assert html.count("data:application/x-netcdf") == carried


def test_what_was_not_measured_is_said(results, tmp_path):
    partly = only(results, "accuracy", "robust/cka")
    partly["robust/curvature"] = xr.Dataset({"curvature": 1.0})
    document = Document(report(partly, tmp_path / "r.html").read_text())
    assert "Not measured for natural, trades." in document.text
    assert "without a section here: curvature." in document.text
    assert "Not measured: Perturbation-to-signal ratio, Signal-to-noise ratio" in document.text
    assert "Also probed, with numbers in the CSV file but no figure: pgd ε=2/255, pgd ε=4/255." in document.text


def test_what_cannot_be_drawn_is_said(results, tmp_path):
    data = only(results, "accuracy", "gradcam").to_dict()
    data["/robust/gradcam"] = data["/robust/gradcam"].drop_vars("map")
    document = Document(report(xr.DataTree.from_dict(data), tmp_path / "r.html").read_text())
    assert "Not shown: unknown variable 'map'" in document.text


def test_sites_that_differ_have_a_ridge_each(tmp_path):
    sites = {"a": ("conv1", "fc"), "b": ("conv1", "conv2", "fc")}
    tree = only(synthetic_results(("a", "b"), sites=sites, images=20), "psr")
    document = Document(report(tree, tmp_path / "r.html").read_text())
    assert "Distribution of the ratio over images, a" in document.text
    assert "Distribution of the ratio over images, b" in document.text


def test_findings_come_worst_first(results, tmp_path):
    severities = ["note", "error", "warning"]
    columns = dict.fromkeys(("check", "evidence", "remedy", "model"), ("finding", ["x"] * 3))
    data = only(results, "accuracy").to_dict()
    data["/preflight"] = xr.Dataset({"severity": ("finding", severities), **columns})
    text = Document(report(xr.DataTree.from_dict(data), tmp_path / "r.html").read_text()).text
    assert text.index("error x in x") < text.index("warning x in x") < text.index("note x in x")


@pytest.mark.parametrize(
    ("provenance", "said"),
    [({"complete": False}, "Unfinished."), ({}, "carry no provenance"),
     ({"run": {"preflight": True}}, "found nothing"), ({"run": {"preflight": False}}, "may not have been run")],
)  # fmt: skip
def test_what_the_provenance_tells(results, tmp_path, provenance, said):
    tree = only(results, "accuracy")
    tree.attrs["provenance"] = json.dumps(provenance)
    del tree["preflight"]
    assert said in report(tree, tmp_path / "r.html").read_text()


def test_without_a_run_that_could_have_had_a_pre_flight_none_is_spoken_of(results, tmp_path):
    tree = only(results, "accuracy")
    del tree["preflight"]
    tree.attrs["provenance"] = json.dumps({"recipe": {"epochs": 3}})
    text = report(tree, tmp_path / "r.html").read_text()
    assert "No findings are recorded" not in text and "#preflight" not in text


def test_all_of_the_provenance_is_shown(hostile, document):
    leaves = list(flat(json.loads(hostile.attrs["provenance"])))
    assert len(leaves) > 10
    assert all(name in document.text and value in document.text for name, value in leaves)


def test_flat_names_every_leaf():
    assert list(flat({"a": {"b": [1, {"c": None}]}, "d": []})) == [("a.b.0", "1"), ("a.b.1.c", "none"), ("d", "none")]


def test_results_without_models_leave_no_file(tmp_path):
    with pytest.raises(NetprobeError, match="no model"):
        report(xr.DataTree(), tmp_path / "r.html")
    assert not list(tmp_path.iterdir())

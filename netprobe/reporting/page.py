"""`report`: results in, one self-contained HTML page out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import xarray as xr
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from netprobe.errors import NetprobeError
from netprobe.groups import DOUBTS, PREFLIGHT
from netprobe.plots.drawing import look, style
from netprobe.plots.reading import (
    GIVEN_BY,
    OF_EVALUATION,
    OF_GEOMETRY,
    OF_REPRESENTATIONS,
    OF_TRAINING,
    OF_WEIGHTS,
    conditions,
    measured,
    models_of,
    models_with,
)
from netprobe.preflight.findings import COLUMNS, SEVERITIES
from netprobe.reporting.downloads import csv, data_uri, estimates_of, netcdf
from netprobe.reporting.figures import two_widths
from netprobe.reporting.sections import SECTIONS, Section, shown_perturbations
from netprobe.reporting.tables import Table, numbers_table
from netprobe.reporting.verdict import verdict
from netprobe.store import atomically

LARGEST = 5_000_000
"""Bytes of the whole page, at most."""


@dataclass
class Shown:
    """A section as the page shows it."""

    section: Section
    notes: list[str] = field(default_factory=list)
    figures: list[tuple[str, Markup]] = field(default_factory=list)
    table: Table | None = None
    csv: str = ""


def report(results: xr.DataTree, path: str | Path, *, complete: str | Path | None = None) -> Path:
    """Write `results` as one HTML page that needs no network: verdict, plots, how to read them, numbers, settings.

    The page is smaller than 5 MB. It carries the results as a netCDF file; where that would make it larger,
    without the variables that have a value for each image, filter or channel, or not at all, and the page says which.

    Parameters
    ----------
    results : what `npb.probe` returns; metrics that were not measured are listed as such
    path : of the HTML file; equal results give equal bytes
    complete : a file with all results that lies beside the page, for the page to name and link

    Returns the path. Raises NetprobeError for results without a model. Cost: every plot is drawn twice, for wide
    and for narrow screens, at about a second a plot.
    """
    judged, provenance = verdict(results), json.loads(results.attrs.get("provenance", "{}"))
    page = {
        "verdict": judged,
        "colours": {name: _colour(index) for index, name in enumerate(judged.models)},
        "findings": _findings(results, PREFLIGHT),
        "doubts": _doubts(results),
        "sections": [_show(results, section) for section in SECTIONS if models_with(results, section.metric)],
        "absent": _absent(results),
        "lead": _lead(results),
        "other": _other_metrics(results),
        "provenance": provenance,
        "on_data": _on_data(provenance.get("data", {})),
        "complete": Path(complete).name if complete else None,
    }
    html = _small_enough(results, page)
    return atomically(Path(path), lambda part: part.write_text(html, encoding="utf-8"))


def _show(results: xr.DataTree, section: Section) -> Shown:
    """The figures and numbers of a section; what cannot be shown is said instead."""
    models = models_with(results, section.metric)
    shown = Shown(section)
    try:
        every = measured(results, section.metric, models)
        shown.notes += _gaps(results, section, models)
        shown.table = numbers_table(every, section.numbers)
        shown.csv = data_uri(csv(every, section.columns).encode(), "text/csv;charset=utf-8")
        for number, (caption, draw) in enumerate(section.figures(results, models)):
            shown.figures.append((caption, two_widths(draw, f"{section.metric}-{number}", caption)))
    except NetprobeError as error:
        shown.notes.append(f"Not shown: {error}.")
    return shown


def _gaps(results: xr.DataTree, section: Section, models: list[str]) -> Iterator[str]:
    """Models and perturbations that the figures of a section leave out."""
    if lacking := [name for name in models_of(results) if name not in models]:
        yield f"Not measured for {', '.join(lacking)}."
    data = results[models[0]][section.metric].to_dataset()
    drawn = shown_perturbations(results, section.metric, models)
    undrawn = [str(each) for each in conditions(data) if each.name not in drawn]
    if section.per_perturbation and undrawn:
        yield f"Also probed, with numbers in the CSV file but no figure: {', '.join(undrawn)}."


def _absent(results: xr.DataTree) -> dict[str, list[str]]:
    """The titles of the sections without results, by the call that would give them."""
    absent: dict[str, list[str]] = {}
    for section in SECTIONS:
        if not models_with(results, section.metric):
            absent.setdefault(_call(section.metric), []).append(section.title)
    return absent


CALLS = {metric: f"npb.{call}(...)" for metric, call in GIVEN_BY.items()} | dict.fromkeys(
    OF_GEOMETRY, "npb.geometry.analyse(...)"
)
"""What measures a metric, if not the probe; the page has all of geometry or nothing."""


def _call(metric: str) -> str:
    return CALLS.get(metric, "npb.probe(..., metrics=[...])")


def _lead(results: xr.DataTree) -> str:
    """What the page is about."""
    measured_ones = {metric for model in models_of(results) for metric in results[model].children}
    alone = len(models_of(results)) == 1
    whose = "this network" if alone else "these networks"
    if measured_ones and measured_ones <= set(OF_WEIGHTS):
        return f"What the weights of {whose} tell, layer by layer"
    if "history" in measured_ones and measured_ones <= {*OF_TRAINING} - {"partial"}:
        return f"How {whose} {'was' if alone else 'were'} trained"
    if measured_ones and measured_ones <= set(OF_EVALUATION):
        return f"What {whose} withstand{'s' * alone}, and whether to believe it"
    if measured_ones and measured_ones <= set(OF_GEOMETRY):
        return f"How smooth {whose} {'is' if alone else 'are'}, and how far errors are"
    if measured_ones == {"partial"}:
        return f"Which layers of {whose} must be trained adversarially"
    if measured_ones - {"accuracy"} and measured_ones <= {*OF_REPRESENTATIONS, "accuracy"}:
        return f"Which images are alike to {whose}, and which layers"
    return f"What perturbations do inside {whose}, layer by layer"


BESIDE = {"spectrum_difference", "frequency_gains"}
"""Metrics that are told in the verdict and in the sections of others."""


def _other_metrics(results: xr.DataTree) -> list[str]:
    """Metrics that have no section."""
    measured_ones = {metric for model in models_of(results) for metric in results[model].children}
    return sorted(measured_ones - {section.metric for section in SECTIONS} - BESIDE)


def _on_data(data: dict[str, Any]) -> str:
    """Which images, in words, as far as the provenance tells."""
    return (
        f", on {data['samples']} samples of {data['name']} ({data['split']})"
        if {"samples", "name", "split"} <= set(data)
        else ""
    )


def _findings(results: xr.DataTree, group: str) -> list[dict[str, str]]:
    """What the pre-flight check, or the doubts of an evaluation, found, worst first."""
    if group not in results.children:
        return []
    columns = {name: results[group][name].values for name in (*COLUMNS, "model")}
    found = [dict(zip(columns, map(str, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"]))


def _doubts(results: xr.DataTree) -> dict[str, Any] | None:
    """Findings and evidence of an evaluation; None if nobody looked."""
    if DOUBTS not in results.children:
        return None
    data = results[DOUBTS].to_dataset()
    texts = zip(*(data[name].values for name in ("row_model", "row_check", "status", "quantity", "limit")), strict=True)
    numbers = zip(*(data[name].values for name in ("value", "low", "high")), strict=True)
    rows = [(*text, _evidence(*map(float, each))) for text, each in zip(texts, numbers, strict=True)]
    return {"findings": _findings(results, DOUBTS), "rows": rows}


def _evidence(value: float, low: float, high: float) -> str:
    """A number of any size, with its interval; nothing for what has no number."""
    if math.isnan(value):
        return ""
    bounds = "" if math.isnan(low) else f" [{low:.3g}, {high:.3g}]"
    return f"{value:.3g}{bounds}".replace("-", "−")


def _colour(index: int) -> str:
    with style():
        return f"{look(index)['color']}"


def _small_enough(results: xr.DataTree, page: dict[str, Any]) -> str:
    """The page with as much of the results inside it as the largest size allows."""
    for held in ("all", "estimates", "nothing"):
        content = {"all": results, "estimates": estimates_of(results)}.get(held)
        link = "" if content is None else data_uri(netcdf(content), "application/x-netcdf")
        html = _render(page | {"netcdf": link, "held": held})
        if len(html.encode()) <= LARGEST:
            break
    return html


def _render(page: dict[str, Any]) -> str:
    """The page as text; whatever comes from the results is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"flat": flat, "quote": quote}
    return environment.get_template("report.html").render(page)


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested dicts and lists, each with its path: ("data.name", "digits")."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        yield name, "none" if value in (None, {}) else str(value)
        return
    for key, child in value.items():
        yield from flat(child, f"{name}.{key}" if name else str(key))

"""SVG inside a page: ids, colours, descriptions."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import pytest

from netprobe import plots
from netprobe.plots.drawing import STYLE
from netprobe.reporting.figures import THEME, inline_svg, summary, two_widths


@pytest.fixture(scope="module")
def svg(results) -> str:
    ax = plots.plot_psr(results)
    text = str(inline_svg(ax, "psr-0", "A <caption> & more"))
    plt.close(ax.figure)
    return text


def test_every_id_begins_with_the_key_and_is_referred_to(svg):
    ids = re.findall(r' id="([^"]+)"', svg)
    referred = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert len(ids) == len(set(ids))
    assert all(name.startswith("psr-0-") for name in ids)
    assert referred == set(ids) - {"psr-0-title", "psr-0-desc"}
    assert any("clip-path" in part for part in svg.split("<"))  # the references are still there


def test_it_is_a_described_image(svg):
    assert 'role="img" aria-labelledby="psr-0-title psr-0-desc"' in svg
    assert "<title" in svg and "A &lt;caption&gt; &amp; more</title>" in svg
    assert re.search(r"<desc[^>]*>Perturbation-to-signal ratio \(dB\) against Site.*natural: from", svg)


def test_it_takes_colours_and_font_from_the_page(svg):
    assert not [colour for colour in THEME if colour in svg]
    assert all(variable in svg for variable in THEME.values())
    assert "font-family" not in svg and "<style" not in svg
    assert "fill: #ffffff" not in svg  # no white card in a dark page


def test_theme_covers_the_style_sheet():
    greys = {f"#{code.lower()}" for code in re.findall(r"color: ([0-9A-F]{6})$", STYLE.read_text(), re.MULTILINE)}
    assert greys == set(THEME)


def test_no_namespace_no_metadata_no_address(svg):
    assert "http" not in svg and "xlink" not in svg and "xmlns" not in svg


def test_two_widths_are_both_there_and_closed(results):
    before = plt.get_fignums()
    html = str(two_widths(lambda ax=None: plots.plot_cka(results, ax=ax), "cka-0", "caption"))
    assert html.count("<svg") == 2
    wide, narrow = (float(box.split()[2]) for box in re.findall(r'viewBox="([^"]+)"', html))
    assert (wide, narrow) == (7.0 * 72, pytest.approx(3.7 * 72))
    assert plt.get_fignums() == before


def test_summary_of_bars_and_of_undefined_values(results):
    ax = plots.plot_snr(results, models=["natural"])
    assert re.match(r"Signal-to-noise ratio \(dB\) against Site, in run order. natural: from \S+ to -", summary(ax))
    empty = results["natural"]["cka"].to_dataset() * float("nan")
    assert "m: undefined." in summary(plots.plot_cka(empty.assign_attrs(model="m")))
    plt.close("all")

"""Plots as SVG inside HTML: themed by the page, described for screen readers, sharing no id with each other."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from netprobe.plots.drawing import INK, QUIET, style
from netprobe.plots.panels import columns

NARROW = 3.7  # inches, the width of a phone: there, too, text keeps its size
THEME = {INK: "var(--ink)", QUIET: "var(--quiet)", "#d8dee4": "var(--grid)"}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
FONT = re.compile(r"font-family: [^;]+; ?")
REFERENCE = re.compile(r"(^#|url\(#)([a-z][\w.-]*)")
DECIMALS = re.compile(r"(\.\d\d)\d+")


def two_widths(draw: Callable[..., Axes], key: str, caption: str) -> Markup:
    """The figure for a wide and for a narrow page, of which the page's style shows one."""
    ax = draw()
    width, height = ax.figure.get_size_inches()
    wide = _closed(ax, f"{key}-wide", caption)
    if ax.get_aspect() != "auto":  # a grid of pictures shrinks as a whole
        height *= NARROW / width
    if ax.child_axes:  # panels that do not fit beside each other go below
        height *= columns(width) / columns(NARROW)
    with style():
        narrow_ax = plt.subplots(figsize=(NARROW, height))[1]
    narrow = _closed(draw(ax=narrow_ax), f"{key}-narrow", caption)
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(wide, narrow)


def _closed(ax: Axes, key: str, caption: str) -> Markup:
    try:
        return inline_svg(ax, key, caption)
    finally:
        plt.close(ax.figure)


def inline_svg(ax: Axes, key: str, caption: str) -> Markup:
    """The figure of `ax` as an <svg> element titled `caption`; all its ids begin with `key`."""
    stream = io.BytesIO()
    with style():
        crop = None if ax.get_aspect() == "auto" else "tight"
        ax.figure.savefig(stream, format="svg", transparent=True, metadata=NO_METADATA, bbox_inches=crop)
    svg = ElementTree.fromstring(stream.getvalue())
    for element in svg.iter():
        _plain_html(element)
    _rename(svg, key)
    size = svg.get("viewBox")
    svg.attrib = {"viewBox": size, "role": "img", "aria-labelledby": f"{key}-title {key}-desc"}
    svg[:0] = [_text("title", f"{key}-title", caption), _text("desc", f"{key}-desc", summary(ax))]
    return Markup(ElementTree.tostring(svg, encoding="unicode"))  # serialised, hence escaped


def _plain_html(element: ElementTree.Element) -> None:
    """No namespaces, no style sheet of its own, the colours and font of the page, two decimals."""
    element.tag = element.tag.rpartition("}")[2]
    element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for child in [child for child in element if child.tag.endswith("}style")]:
        element.remove(child)
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for name in {"d", "x", "y", "transform"} & element.attrib.keys():
        element.set(name, DECIMALS.sub(r"\1", " ".join(element.get(name).split())))
    if "href" in element.attrib:
        element.set("href", "".join(element.get("href").split()))
    if "style" in element.attrib:
        themed = FONT.sub("", element.get("style"))
        for colour, variable in THEME.items():
            themed = themed.replace(colour, variable)
        element.set("style", themed)


def _rename(svg: ElementTree.Element, key: str) -> None:
    """Ids that are referred to begin with `key`, as do the references; other ids go."""
    attributes = [(element, name) for element in svg.iter() for name in element.attrib]
    referring = [(element, name) for element, name in attributes if REFERENCE.search(element.get(name))]
    used = {own for element, name in referring for _, own in REFERENCE.findall(element.get(name))}
    for element, name in referring:
        element.set(name, REFERENCE.sub(rf"\g<1>{key}-\g<2>", element.get(name)))
    for element in svg.iter():
        if (own := element.attrib.pop("id", None)) in used:
            element.set("id", f"{key}-{own}")


def _text(tag: str, name: str, text: str) -> ElementTree.Element:
    element = ElementTree.Element(tag, {"id": name})
    element.text = text
    return element


def summary(ax: Axes) -> str:
    """What a reader who cannot see the figure should know: the axes, and where each line or bar begins and ends."""
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    drawn |= {bars.get_label(): [bar.get_height() for bar in bars] for bars in ax.containers}
    spans = [_span(label, np.asarray(y, float)) for label, y in drawn.items() if not label.startswith("_")]
    axes = " against ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel()))).replace("\n", "; ")
    return " ".join([f"{axes}." if axes else "", *spans, "The numbers are in the table below."]).strip()


def _span(label: str, values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    name = label.replace(r"\$", "$")
    return f"{name}: from {known[0]:.3g} to {known[-1]:.3g}." if known.size else f"{name}: undefined."

"""How every plot is drawn: style sheet, one look per model, axes of sites, intervals, headings and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from textwrap import wrap
from typing import ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from netprobe.plots.reading import Measured, along, interval, label, places, same_sites

STYLE = Path(__file__).with_name("netprobe.mplstyle")
INK = "#1f2328"
QUIET = "#6e7781"
LONGEST_NAME = 24
DATES = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Left out of the metadata: the same figure is the same file."""
LETTER = 9  # points, the largest size of text in the style sheet but headings
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

P = ParamSpec("P")


def style() -> AbstractContextManager[None]:
    """The style sheet inside a `with`; the global rcParams are as before afterwards."""
    return plt.style.context(STYLE)


def styled(plot: Callable[P, Axes]) -> Callable[P, Axes]:
    """Decorator: draw in the style sheet, whatever style the caller has and keeps."""

    @wraps(plot)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Axes:
        with style():
            ax = plot(*args, **kwargs)
            for axis in (axis for each in (ax, *ax.child_axes) for axis in (each.xaxis, each.yaxis)):
                # Later ticks copy the first. Made now, or they take the style of whoever shows the figure.
                axis.get_major_ticks(), axis.get_minor_ticks()
            return ax

    return inside


def save(
    drawn: Axes | Figure, path: str | Path, *, title: str | None = None, about: str | None = None, **options: object
) -> Path:
    """Write a figure (or that of an Axes): text stays text, and the same numbers give the same bytes.

    The suffix decides the format. `title` and `about`, where it came from, are in the file's metadata: of a PDF as
    Title and Keywords, of a PNG as the texts Title and Description, of an SVG likewise. Some settings of the style act
    only on saving, hence not `figure.savefig`.
    """
    figure = drawn.figure if isinstance(drawn, Axes) else drawn
    suffix = Path(path).suffix.lower()
    said = {"Title": title, "Keywords" if suffix == ".pdf" else "Description": about}
    metadata = {name: text for name, text in said.items() if text is not None} | DATES.get(suffix, {})
    with style():
        figure.savefig(path, metadata=metadata or None, **options)
    return Path(path)


def canvas(ax: Axes | None, height: float = 3.8, width: float = 7.0) -> Axes:
    """`ax`, or the Axes of a new figure of `width` by `height` inches."""
    return plt.subplots(figsize=(width, height))[1] if ax is None else ax


def look(index: int) -> dict[str, object]:
    """Colour, marker and line style of the model at `index`: the first is blue, the second orange."""
    cycle = list(mpl.rcParams["axes.prop_cycle"])
    return cycle[index % len(cycle)]


def plain(text: str) -> str:
    """`text` to be printed as it is: no sign begins mathematics, hides it from a legend or breaks an SVG file."""
    shown = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)
    return ("\u200b" if shown.startswith("_") else "") + shown.replace("$", r"\$")


def percent(share: float, decimals: int = 0) -> str:
    """A share as axes spell it: 12 %."""
    return f"{100 * share:.{decimals}f} %"


def finite(values: np.ndarray) -> np.ndarray:
    """`values` with NaN for what no axis can show."""
    return np.where(np.isfinite(values), values, np.nan)


def site_curves(every: Sequence[Measured], name: str, title: str, ax: Axes | None, at_zero: str | None = None) -> Axes:
    """Variable `name` along the network: for each model a line, and its interval as a band.

    `at_zero` names the line at 0, which is drawn where the axis reaches it.
    """
    ax = canvas(ax)
    places = site_axis(ax, every)
    handles = [curve(ax, x, entry, name) for entry, x in zip(every, places, strict=True)]
    low, high = ax.get_ylim()
    if at_zero and low < 0 < high:
        handles.append(ax.axhline(0, color=QUIET, linewidth=1, zorder=1, label=at_zero))
    ax.set_ylabel(label(every[0].data[name]))
    heading(ax, title, handles)
    return ax


def curve(ax: Axes, x: np.ndarray, entry: Measured, name: str) -> Artist:
    """One model's line with its interval as a band; what is not finite leaves a gap. Returns the line."""
    low, high = interval(entry.data, name)
    ax.fill_between(x, finite(low), finite(high), color=look(entry.index)["color"], alpha=0.2)
    return ax.plot(x, finite(entry.data[name].values), label=plain(entry.model), **look(entry.index))[0]


def whiskers(ax: Axes, x: np.ndarray, entry: Measured, name: str, **options: object) -> Artist:
    """Vertical lines from the lower to the upper bound of `name`."""
    low, high = map(finite, interval(entry.data, name))
    return ax.vlines(x, low, high, **options)


def site_axis(ax: Axes, every: Sequence[Measured]) -> list[np.ndarray]:
    """Label the x axis with the sites, or layers, in run order; returns each model's positions.

    Models that share their sites share the ticks. Others are placed by relative depth, because names that
    differ cannot be aligned honestly.
    """
    if not same_sites(every):
        ax.set_xlabel("Relative depth in the network, 0 to 1")
        return [entry.data["depth"].values for entry in every]
    names = places(every[0].data)
    name_ticks(ax.xaxis, names)
    ax.set_xlabel(f"{along(every[0].data).capitalize()}, in run order")
    return [np.arange(len(names))] * len(every)


def name_ticks(axis: Axis, names: Iterable[str]) -> None:
    """A tick for each name at 0, 1, 2, ..., as many of them labelled as is legible; long x labels slant."""
    shown = [plain(shorten(str(name))) for name in names]
    axis.set_major_locator(Legible(range(len(shown)), max(map(len, shown), default=0)))
    axis.set_minor_locator(FixedLocator(range(len(shown))))
    axis.set_major_formatter(FuncFormatter(lambda at, _: shown[round(at)]))
    axis.grid(axis.axis_name == "y")
    if axis.axis_name == "x" and sum(map(len, shown)) > letters_across(axis.axes):
        labels = [tick.label1 for tick in axis.get_major_ticks(len(shown))]
        plt.setp(labels, rotation=40, ha="right", rotation_mode="anchor")


class Legible(FixedLocator):
    """Every k-th place, k the smallest at which labels of `letters` letters stay apart as drawn."""

    def __init__(self, places: Iterable[float], letters: int) -> None:
        super().__init__(places)
        self.letters = letters

    def __call__(self) -> np.ndarray:
        flat = self.axis.axis_name == "x" and not self.axis.get_major_ticks(1)[0].label1.get_rotation()
        along = letters_across(self.axis.axes, "width" if self.axis.axis_name == "x" else "height")
        self.nbins = max(int(along / (self.letters + 2 if flat else 3)), 2)
        return super().__call__()


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """A name no longer than `longest`: its end, which tells layers apart, behind an ellipsis."""
    return name if len(name) <= longest else "…" + name[1 - longest :]


def norm_name(norm: str) -> str:
    """The norm in words."""
    return f"L{norm.replace('inf', '∞')} norm"


def letters_across(ax: Axes, side: str = "width") -> float:
    """How many letters fit along a side of `ax`, a letter being 0.6 of its height wide."""
    points = getattr(ax.bbox, side) * 72 / ax.get_figure(root=True).dpi
    return points / (0.6 * LETTER)


def heading(ax: Axes, title: str, handles: Sequence[Artist] = ()) -> None:
    """The title with the legend below it, above the Axes and left-aligned, so that neither covers data."""
    title = plain("\n".join(balanced(title, max(int(0.85 * letters_across(ax)), 20))))
    named = [handle for handle in handles if handle.get_label()]
    if not named:
        ax.set_title(title)
        return
    legend = ax.legend(
        handles=named,
        title=title,
        ncols=_columns(ax, named),
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        borderaxespad=0,
        borderpad=0,
        alignment="left",
    )
    legend.get_title().set_fontweight("bold")


def balanced(title: str, letters: int) -> list[str]:
    """As few lines of at most so many letters as there can be, about equally long; a number keeps its per cent sign."""
    text, joint = title.replace(" %", "\N{NO-BREAK SPACE}%"), "\N{NO-BREAK SPACE}"
    fewest = len(wrap(text, letters))
    lines = next(each for width in range(1, letters + 1) if len(each := wrap(text, width)) <= fewest)
    return [line.replace(joint, " ") for line in lines]


def _columns(ax: Axes, handles: Sequence[Artist]) -> int:
    """How many legend entries to set beside each other: as many as fit, a handle taking the room of seven letters, but
    no more than fill all rows evenly.
    """
    widest = max(len(str(handle.get_label())) for handle in handles) + 7
    most = max(1, min(len(handles), int(letters_across(ax) / widest)))
    return -(-len(handles) // -(-len(handles) // most))


def power_ticks(axis: Axis) -> None:
    """Label a logarithmic axis at powers of ten, in characters instead of mathematics."""
    axis.set_major_formatter(FuncFormatter(power))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Two or three labelled ticks or so on a logarithmic axis from `low` to `high`: powers of ten; where it holds fewer
    than two, 1, 2 and 5 times one.
    """
    powers = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    shown, name = powers[:: max(1, -(-len(powers) // 3))], power
    if len(powers) < 2:
        below = 10.0 ** np.floor(np.log10(low))
        steps = np.outer(below * np.array([1, 10, 100]), (1, 2, 5)).ravel()
        inside = steps[(steps >= low) & (steps <= high)]
        shown, name = inside if len(inside) else [np.sqrt(low * high)], _two_digits
    axis.set_major_locator(FixedLocator(shown))
    axis.set_major_formatter(FuncFormatter(name))
    axis.set_minor_locator(NullLocator())


def _two_digits(value: float, _: int | None = None) -> str:
    """200 and 0.02 as they are, 2000000 as 2·10⁶."""
    exponent = int(np.floor(np.log10(value)))
    if -4 <= exponent <= 4:
        return f"{float(f'{value:.2g}'):g}"
    return f"{value / 10.0**exponent:.2g}·{power(10.0**exponent)}"


def power(value: float, _: int | None = None) -> str:
    """1, 10 and 100 as they are, other powers of ten as 10⁻³."""
    exponent = round(np.log10(value))
    return f"{value:.0f}" if 0 <= exponent <= 2 else "10" + str(exponent).translate(SUPERSCRIPT)

"""What the similarity regulariser did, site by site, over the epochs of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from netprobe.errors import NetprobeError
from netprobe.plots.drawing import INK, QUIET, finite, heading, look, plain, shorten, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, measured

TERM = "similarity"
WEIGHT, AT, CORRELATION = f"{TERM}_weight_", f"{TERM}_at_", f"{TERM}_correlation"
MOST = 7
"""Sites that have colours of their own."""


@styled
def plot_similarity_training(
    results: xr.Dataset | Mapping[str, xr.Dataset] | xr.DataTree,
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Weights of the sites, the mean similarity of pairs at each, and its correlation with the target, over epochs.

    A row of three panels for each network. A weight that goes to 1 says that the term has found the site whose
    similarities are easiest to match, and no longer looks at others. The correlation is Pearson's r of S = sum_l w_l
    s_l and the targets over an epoch's pairs; there is none where all targets are equal. Of more than seven sites the
    first seven are drawn.

    Parameters
    ----------
    results : the history of `npb.fit(..., regularise="similarity")`, several by name, or a tree with a group "history"
    models, ax : as for `plot_psr`

    Returns the Axes, whose `child_axes` are the panels. NetprobeError if nothing was trained with that regulariser.
    """
    every = [entry for entry in measured(results, "history", models) if similarity_sites(entry.data)]
    if not every:
        raise NetprobeError("none of these trainings had the regulariser 'similarity': there is nothing to draw")
    ax = panel_canvas(ax, 3 * len(every), "Epoch", "")
    sites = similarity_sites(every[0].data)[:MOST]
    titles = [_title(entry, what, every) for entry in every for what in ("weight", "mean similarity", "correlation")]
    made = iter(panels(ax, titles))
    for entry in every:
        handles = _sites(next(made), entry, similarity_sites(entry.data)[:MOST], WEIGHT)
        _sites(next(made), entry, similarity_sites(entry.data)[:MOST], AT)
        _correlation(next(made), entry)
    alike = all(similarity_sites(entry.data)[:MOST] == sites for entry in every)
    heading(ax, "Similarity of pairs during training", handles if alike else ())
    return ax


def similarity_sites(history: xr.Dataset) -> list[str]:
    """The sites at which similarity was regularised, in run order."""
    return [str(name).removeprefix(WEIGHT) for name in history.data_vars if str(name).startswith(WEIGHT)]


def _title(entry: Measured, what: str, every: Sequence[Measured]) -> str:
    return f"{entry.model}: {what}" if len(every) > 1 else what.capitalize()


def _sites(panel: Axes, entry: Measured, sites: Sequence[str], prefix: str) -> list:
    """A line for each site."""
    lines = [
        panel.plot(
            entry.data["epoch"].values,
            finite(entry.data[f"{prefix}{site}"].values),
            **(look(number) | {"marker": "."}),
            markersize=3,
            label=plain(shorten(site)),
        )[0]
        for number, site in enumerate(sites)
    ]
    if prefix == WEIGHT:
        panel.set_ylim(0, 1.04)
    else:
        _around_zero(panel)
    panel.xaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))
    return lines


def _correlation(panel: Axes, entry: Measured) -> None:
    if CORRELATION in entry.data:
        values = finite(entry.data[CORRELATION].values)
        panel.plot(entry.data["epoch"].values, values, color=INK, marker=".", markersize=3)
    else:
        panel.text(0.5, 0.5, "undefined", transform=panel.transAxes, ha="center", va="center", fontsize=8)
        panel.set(xticks=[], yticks=[])
        return
    _around_zero(panel)
    panel.xaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))


def _around_zero(panel: Axes) -> None:
    """Zero is in sight."""
    panel.axhline(0, color=QUIET, linewidth=0.8, zorder=1)

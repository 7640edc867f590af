"""Clean against perturbed activations, site by site."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.plots.reading import measured, same_sites, sweep
from netprobe.reporting.sections.section import Figure, Numbers, Section, for_each


def _psr(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield from for_each(plots.plot_psr, "psr", "Mean perturbation-to-signal ratio at each site", results, models)
    together = same_sites(measured(results, "psr", models))
    for group in [models] if together else [[model] for model in models]:
        name = "Distribution of the ratio over images" + ("" if together else f", {group[0]}")
        yield Figure(name, partial(plots.plot_psr_ridge, results, models=group))


def _snr(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield from for_each(plots.plot_snr, "snr", "Signal-to-noise ratio at each site", results, models)


def _spectrum(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for definition in map(str, measured(results, "spectrum", models)[0].data["definition"].values):
        options = {"models": models, "definition": definition}
        caption = f"Eigenvalues of the covariance at the site with the most ranks fitted, {definition} definition"
        yield Figure(caption, partial(plots.plot_spectrum, results, **options))
        yield Figure(f"Exponent α at each site, {definition} definition", partial(plots.plot_alpha, results, **options))


def _sparsity(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Squared Hoyer ratio at each site", partial(plots.plot_sparsity, results, models=models))


def _correlation(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    over = "budget, at the last site" if sweep(measured(results, "correlation", models)[0].data) else "site"
    yield Figure(f"Correlation shift at each {over}", partial(plots.plot_correlation_shift, results, models=models))
    if all("change" in results[model]["correlation"] for model in models):
        caption = "How far the correlations of pairs of units move, at the last site"
        yield Figure(caption, partial(plots.plot_correlation_change, results, models=models))


def _cka(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield from for_each(plots.plot_cka, "cka", "Similarity of clean and perturbed at each site", results, models)


PSR = Section(
    "psr",
    "Perturbation-to-signal ratio",
    "At every site, from input to output, how large the change of the activations is compared with the "
    "activations themselves: the mean over images of ||f(x) − f(x′)|| / ||f(x)||, in decibels. 0 dB means "
    "that the change is as large as the signal, 20 dB ten times as large; a ratio above 1 is possible and "
    "common in late layers of naturally trained networks. A rising line means that the network amplifies the "
    "perturbation more than the image. Scaling a layer's weights leaves the ratio as it is, but a shift of "
    "all activations (a bias, a normalisation) does not, so compare like sites of like architectures. Bands "
    "are bootstrap 95 % intervals over images. In the ridges every hill is scaled to its own maximum: read "
    "place and width, not height; the mean can hide two groups of images that the ridge shows.",
    _psr,
    Numbers("psr_db", "site", 1),
    ("psr_db", "psr_median"),
    per_perturbation=True,
)

SNR = Section(
    "snr",
    "Signal-to-noise ratio",
    "The reverse view in power: the mean over images of ||f(x)||² / ||f(x′) − f(x)||², in decibels, usually "
    "at the inputs of the blocks (sites ending in :in). Higher bars mean less disturbance; below 0 dB the "
    "noise is stronger than the signal. The mean of ratios is dominated by the few images that hardly "
    "change, so the dash marks the median; where bar and dash are far apart, trust the dash. It is not the "
    "negative of the perturbation-to-signal ratio, because the averages are taken over different things.",
    _snr,
    Numbers("snr_db", "site", 1),
    ("snr_db", "snr_median_db"),
    per_perturbation=True,
)

SPECTRUM = Section(
    "spectrum",
    "Eigenspectrum",
    "The eigenvalues of the covariance of the activations over images, largest first, both axes logarithmic. "
    "A power law is a straight line, and its slope gives the exponent α: a large α means that the variance "
    "sits in few directions, a small one that it is spread over many. The dark line spans the ranks that "
    "were fitted, no more. The interval in the legend is that of the least-squares fit alone, and is too "
    "narrow because neighbouring eigenvalues are not independent; the coloured band, the slopes over other "
    "ranges of ranks, is the honest measure of how far α can be trusted. Where points bend away from the "
    "line there is no power law and α means little. α depends on the definition of the variables and on the "
    "number of images: compare only what shares both.",
    _spectrum,
    Numbers("alpha", "site", 2),
    ("alpha", "alpha_band", "r2", "fit_first", "fit_last", "rank_numeric", "participation_ratio"),
)

HOYER = Section(
    "hoyer",
    "Sparsity of activations",
    "The squared Hoyer ratio across channels, averaged over locations and images: 0 when a single channel is "
    "active, 1 when all are alike. Gaussian values give about 0.64, their positive part about 0.32, so the "
    "same network reads differently before and after its non-linearity: look at what the sites are before "
    "comparing. Locations where every channel is silent have no ratio and are left out; their share is in "
    "the CSV file, and a low ratio beside a large silent share says less than it seems.",
    _sparsity,
    Numbers("hoyer", "site", 3),
    ("hoyer", "silent"),
)

CORRELATION = Section(
    "correlation",
    "Correlation shift",
    "How much a perturbation rearranges which images look alike to the network: the Frobenius norm of the "
    "change of the matrix of Pearson correlations. 0 means that the structure is untouched. The norm grows "
    "with the size of the matrix and depends on the number of units that vary, so between sites or models of "
    "different width compare the shift per pair of live units, in the CSV file. A small shift is no merit by "
    "itself: a network that maps all images to nearly the same point has little to rearrange.",
    _correlation,
    Numbers("shift", "site", 2),
    ("shift", "shift_per_pair", "live_units"),
)

CKA = Section(
    "cka",
    "Similarity of clean and perturbed representations",
    "Linear centred kernel alignment between the clean and the perturbed activations of the same images: 1 "
    "when the two agree up to rotation and scale, 0 when they share no linear structure. It is blind to "
    "changes of size and is led by the directions of largest variance; with fewer images than units it is "
    "biased upwards. High values therefore do not prove that predictions survive.",
    _cka,
    Numbers("cka", "site", 3),
    ("cka",),
    per_perturbation=True,
)

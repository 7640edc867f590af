"""What weights alone tell."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.plots.reading import conditions, measured, pick
from netprobe.reporting.sections.section import Figure, Numbers, Section, alike, shown_perturbations


def _singular_values(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for group, whose in alike(results, "singular_values", models):
        caption = f"Normalised singular values of the first, the middle and the last convolutions{whose}"
        yield Figure(caption, partial(plots.plot_singular_values, results, models=group))
    for caption, plot in (
        ("Operator norm of each layer, with bounds", plots.plot_operator_norm),
        ("Median singular value of each layer, as a share of the largest", plots.plot_tail_fatness),
        ("Effective rank of each layer, as a share of its singular values", plots.plot_effective_rank),
    ):
        yield Figure(caption, partial(plot, results, models=models))


def _filters(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for group, whose in alike(results, "filters", models):
        caption = f"Squared Hoyer ratio of the filters of each layer{whose}"
        yield Figure(caption, partial(plots.plot_filter_hoyer, results, models=group))


def _batch_norm(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for group, whose in alike(results, "batch_norm", models):
        for quantity, name in (
            ("running_mean", "Running means"),
            ("running_variance", "Running variances"),
            ("gamma", "Scales γ"),
            ("beta", "Shifts β"),
        ):
            draw = partial(plots.plot_batch_norm, results, quantity=quantity, models=group)
            yield Figure(f"{name} of the channels of each batch norm{whose}", draw)


def _batch_norm_drift(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    data = measured(results, "batch_norm_drift", models)[0].data
    for name in shown_perturbations(results, "batch_norm_drift", models, "condition"):
        under = conditions(pick(data, condition=name), "condition")[0]
        whose = "clean images" if name == "clean" else f"images under {under}"
        draw = partial(plots.plot_batch_norm_drift, results, condition=name, models=models)
        yield Figure(f"Shift of the means from the running means, {whose}", draw)


SINGULAR_VALUES = Section(
    "singular_values",
    "Singular values of the layers",
    "Every convolution is a linear map from all its inputs to all its outputs, here at the resolution that it "
    "really sees; its singular values say how much it stretches each direction. Divided by the largest and drawn "
    "against their relative index, a line that stays high is a fat tail: many directions pass on nearly alike; a "
    "line that drops early means that the layer keeps few. The operator norm is the largest value. The whisker "
    "above it is a certified bound, and the dash is what is often reported instead, a bound from the kernel "
    "reshaped to a matrix: it is not the norm and may be far above it. The product of the norms bounds the "
    "linear layers of a chain only; batch norm rescales every layer, so a norm by itself says little about a "
    "network with batch norm: multiply by the largest gain under Batch norm. The comparison of tails is paired "
    "over layers, which are no independent sample: it says how consistent a difference is. The method and the "
    "padding behind each number are in the CSV file.",
    _singular_values,
    Numbers("operator_norm", "layer", 3),
    (
        "operator_norm",
        "operator_norm_upper",
        "kernel_bound",
        "frobenius",
        "effective_rank",
        "stable_rank",
        "median_normalized",
        "density_error",
        "count",
        "method",
        "padding",
        "input_size",
        "output_size",
        "note",
    ),
)

FILTERS = Section(
    "filters",
    "Sparsity of the filters",
    "The squared Hoyer ratio of the weights of every output: 0 when a single weight is not zero, 1 when all are "
    "alike in size; Gaussian weights, such as those of a fresh network, lie near 2/π (the grey line). In the "
    "dissertation behind this plot the first layer of adversarially trained networks was clearly sparser, and "
    "most others overlapped. The ratio knows nothing of the size of a filter. Dead filters have no ratio: those "
    "without weights, and those that a batch norm alone reads and multiplies by a scale of (nearly) zero; the "
    "CSV file counts both. Intervals are bootstrap over the filters of a layer.",
    _filters,
    Numbers("hoyer", "layer", 3),
    (
        "hoyer",
        "hoyer_median",
        "filters",
        "elements",
        "dead",
        "dead_weights",
        "dead_batch_norm",
        "batch_norm",
        "note",
    ),
)

BATCH_NORM = Section(
    "batch_norm",
    "Batch norm",
    "What each batch norm carries, one value a channel. The running mean and variance describe the activations "
    "that the layer saw in training; scale and shift were learned. Within a panel the models share their bins; "
    "panels have their own axes, so compare models, not layers. A scale of zero silences a channel. The numbers "
    "below are the largest gain of each layer, scale over running standard deviation, which is the layer's "
    "operator norm once training is over. The values of every channel are in results.nc.",
    _batch_norm,
    Numbers("gain", "layer", 3),
    ("gain", "constant", "channels", "epsilon", "note"),
)

BATCH_NORM_DRIFT = Section(
    "batch_norm_drift",
    "Drift of the batch-norm statistics",
    "Whether what the batch norms are given still has the mean and variance that they normalise by. The shift is "
    "in running standard deviations, averaged over channels without signs: 0 on the training data, 0.5 when the "
    "average channel has moved by half a standard deviation. On clean images a large shift means that these are "
    "not the data of the training (or that the statistics never settled); under a perturbation it is the part of "
    "the disturbance that no single image shows. Few images shift a mean by chance too. Bands are jackknife 95 % "
    "intervals over blocks of images. Log ratios of the variances and the divergence between the Gaussians are "
    "in the CSV file.",
    _batch_norm_drift,
    Numbers("mean_shift", "layer", 3),
    ("mean_shift", "log_variance_ratio", "symmetric_kl", "rows"),
)

"""What the page shows of each metric: its figures, how to read them, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import xarray as xr
from matplotlib.axes import Axes

from netprobe import plots
from netprobe.plots.partial_reading import mixed, parted, single
from netprobe.plots.reading import (
    conditions,
    measured,
    models_with,
    pick,
    same_sites,
    strongest_of_families,
    sweep,
    tabled,
)
from netprobe.plots.robustness_curve import swept_bases
from netprobe.plots.similarity_training import similarity_sites

MOST_FAMILIES = 4  # figures of one kind; the other perturbations are in the CSV file


class Figure(NamedTuple):
    """A caption, and the plot to draw as `draw(ax=...)`."""

    caption: str
    draw: Callable[..., Axes]


class Numbers(NamedTuple):
    """The table below the figures: `variable` along `dim`, written with so many digits."""

    variable: str
    dim: str
    digits: int


@dataclass(frozen=True)
class Section:
    """One metric on the page; `columns` are the variables of its CSV file, with their intervals."""

    metric: str
    title: str
    reading: str
    figures: Callable[[xr.DataTree, list[str]], Iterator[Figure]]
    numbers: Numbers
    columns: tuple[str, ...]
    per_perturbation: bool = False


def shown_perturbations(results: xr.DataTree, metric: str, models: list[str], dim: str = "perturbation") -> list[str]:
    """The perturbations (or conditions) that have figures: the strongest of each of the first families."""
    return strongest_of_families(measured(results, metric, models)[0].data, dim)[:MOST_FAMILIES]


def _accuracy(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Accuracy under each condition", partial(plots.plot_accuracy, results, models=models))


def _evaluation(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    options = {"metric": "evaluation", "models": models}
    yield Figure("Accuracy, clean and under each attack or noise", partial(plots.plot_accuracy, results, **options))
    data = measured(results, "evaluation", models)[0].data
    elsewhere = {name.partition("@")[0] for name in tabled(data)}
    for base in [each for each in swept_bases(data) if each not in elsewhere]:
        draw = partial(plots.plot_robustness_curve, results, perturbation=base, models=models)
        yield Figure(f"Accuracy against the strength of {base}", draw)


def _worst_case(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield from ()


def _minimum_norm(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Norms of the smallest perturbations found", partial(plots.plot_minimum_norm, results, models=models))


def _boundary_distance(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    draw = partial(plots.plot_boundary_distance, results, models=models)
    yield Figure("Squared distances to the decision boundary", draw)


def _minimal_spectra(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    data = measured(results, "perturbation_spectrum", models)[0].data
    for name in shown_perturbations(results, "perturbation_spectrum", models):
        options = {"perturbation": name, "models": models}
        under = conditions(pick(data, perturbation=name))[0]
        draw = partial(plots.plot_perturbation_spectrum, results, **options)
        yield Figure(f"Energy of the perturbation by spatial frequency, {under}", draw)
        yield Figure(
            f"Mean spectra of the perturbation, {under}", partial(plots.plot_spectrum_maps, results, **options)
        )


def _corruptions(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    caption = "Accuracy under each corruption and severity"
    yield Figure(caption, partial(plots.plot_corruption_table, results, models=models))
    if results[models[0]]["corruptions"].sizes["severity"] > 1:
        draw = partial(plots.plot_severity_curve, results, models=models)
        yield Figure("Accuracy against severity, mean over corruptions", draw)
        yield Figure("Accuracy at one severity", partial(plots.plot_corruption_accuracy, results, models=models))
    if gaining := models_with(results, "frequency_gains"):
        draw = partial(plots.plot_frequency_gains, results, models=gaining)
        yield Figure("Accuracy gained by the frequencies that a corruption changes", draw)
    options = {"models": models} | ({"baseline": models[0]} if len(models) > 1 else {})
    against = f", relative to {models[0]}" if len(models) > 1 else ""
    yield Figure(f"Corruption error{against}", partial(plots.plot_corruption_error, results, **options))


def _landscape(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Loss around the images", partial(plots.plot_loss_landscape, results, models=models))


def _jacobian(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for quantity in ("frobenius", "operator"):
        draw = partial(plots.plot_jacobian_norms, results, quantity=quantity, models=models)
        yield Figure(f"Norm of the Jacobian at each site, {quantity}", draw)


def _distances(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Accuracy along each walk", partial(plots.plot_relative_accuracy, results, models=models))
    yield Figure("Distances to the first error", partial(plots.plot_critical_distances, results, models=models))
    yield Figure("Accuracy against distance", partial(plots.plot_distance_scatter, results, models=models))


def _units(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Spectra under images and noise", partial(plots.plot_unit_spectra, results, models=models))


def _plane(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("A plane through an image", partial(plots.plot_decision_plane, results, models=models))


def _history(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Accuracy during training", partial(plots.plot_learning_curves, results, models=models))
    yield Figure("What was minimised", partial(plots.plot_training_loss, results, models=models))
    if any("regularisers" in results[model]["history"].attrs for model in models):
        draw = partial(plots.plot_training_terms, results, models=models)
        yield Figure("Losses, accuracies and the terms of regularisers", draw)
    if any(similarity_sites(results[model]["history"].to_dataset()) for model in models):
        draw = partial(plots.plot_similarity_training, results, models=models)
        yield Figure("What the similarity of pairs was drawn to, site by site", draw)


def _polarization(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    caption = "Filter outputs before the quantiser, stage by stage"
    yield Figure(caption, partial(plots.plot_polarization, results, models=models))
    for name in models:
        if "weight" in results[name]["polarization"]:
            yield Figure(f"Filters of {name}", partial(plots.plot_front_end_filters, results, models=[name]))


def _firing(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for group, whose in _alike(results, "firing", models):
        caption = f"How often each channel is among the strongest of its place{whose}"
        yield Figure(caption, partial(plots.plot_firing, results, models=group))


def _settling(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Energies and residual over the steps", partial(plots.plot_settling, results, models=models))
    yield Figure("What would be said after each step", partial(plots.plot_step_read_out, results, models=models))


def _lateral(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Weights by which units predict each other", partial(plots.plot_lateral_map, results, models=models))


def _prototypes(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for name in models:
        whose = f", {name}" if len(models) > 1 else ""
        draw = partial(plots.plot_prototypes, results, models=[name])
        yield Figure(f"What units have learnt, before and after pruning{whose}", draw)
    yield Figure("Variances of the units' weights", partial(plots.plot_pruning, results, models=models))


def _partial(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    every = measured(results, "partial", models)
    codes = [code for entry in every for code in mixed(entry.data)]
    layers = [code for entry in every for code in single(entry.data)]
    controls = [code for entry in every for code in parted(entry.data) if code not in codes]
    for quantity in ("adversarial_accuracy", "adversarial_loss", "clean_accuracy") if codes else ():
        draw = partial(plots.plot_partial_curves, results, quantity=quantity, models=models)
        name = quantity.replace("_", " ").capitalize()
        yield Figure(f"{name} against the number of adversarially trained layers", draw)
    if controls:
        draw = partial(plots.plot_partial_curves, results, along="cutoff", models=models)
        yield Figure("Adversarial accuracy against the number of early layers, controls too", draw)
    if layers:
        draw = partial(plots.plot_partial_layers, results, models=models)
        yield Figure("Adversarial accuracy lost or gained with each single layer", draw)
    if codes or layers:
        draw = partial(plots.plot_partial_parameters, results, models=models)
        yield Figure("Adversarial accuracy gained with the parameters of each layer", draw)


def _psr(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield from _for_each(plots.plot_psr, "psr", "Mean perturbation-to-signal ratio at each site", results, models)
    together = same_sites(measured(results, "psr", models))
    for group in [models] if together else [[model] for model in models]:
        name = "Distribution of the ratio over images" + ("" if together else f", {group[0]}")
        yield Figure(name, partial(plots.plot_psr_ridge, results, models=group))


def _snr(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield from _for_each(plots.plot_snr, "snr", "Signal-to-noise ratio at each site", results, models)


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
    yield from _for_each(plots.plot_cka, "cka", "Similarity of clean and perturbed at each site", results, models)


def _similarity(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    draw = partial(plots.plot_similarity_matrices, results, models=models)
    yield Figure("Similarity of every two images, in the pixels and at sites", draw)


def _rsa(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    data = measured(results, "rsa", models)[0].data
    for name in shown_perturbations(results, "rsa", models, "condition"):
        draw = partial(plots.plot_rsa, results, condition=name, models=models)
        under = "" if name == "clean" else f", {name}"
        yield Figure(f"Correlation of similarities at each site with {data['other'].values[0]}{under}", draw)
    if "joint" in data:
        draw = partial(plots.plot_similarity_joint, results, models=models)
        yield Figure(f"Pairs of images, similarity at sites against {data['reference'].values[0]}", draw)


def _cka_matrix(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Similarity of every two layers", partial(plots.plot_cka_matrix, results, models=models))


def _gradcam(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Signed Grad-CAM maps", partial(plots.plot_gradcam, results, models=models))


def _singular_values(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for group, whose in _alike(results, "singular_values", models):
        caption = f"Normalised singular values of the first, the middle and the last convolutions{whose}"
        yield Figure(caption, partial(plots.plot_singular_values, results, models=group))
    for caption, plot in (
        ("Operator norm of each layer, with bounds", plots.plot_operator_norm),
        ("Median singular value of each layer, as a share of the largest", plots.plot_tail_fatness),
        ("Effective rank of each layer, as a share of its singular values", plots.plot_effective_rank),
    ):
        yield Figure(caption, partial(plot, results, models=models))


def _filters(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for group, whose in _alike(results, "filters", models):
        caption = f"Squared Hoyer ratio of the filters of each layer{whose}"
        yield Figure(caption, partial(plots.plot_filter_hoyer, results, models=group))


def _batch_norm(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for group, whose in _alike(results, "batch_norm", models):
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


def _alike(results: xr.DataTree, metric: str, models: list[str]) -> Iterator[tuple[list[str], str]]:
    """All models together if they share their layers, else each by itself, with its name for the caption."""
    if same_sites(measured(results, metric, models)):
        yield models, ""
        return
    for model in models:
        yield [model], f", {model}"


def _for_each(
    plot: Callable[..., Axes], metric: str, caption: str, results: xr.DataTree, models: list[str]
) -> Iterator[Figure]:
    data = measured(results, metric, models)[0].data
    for name in shown_perturbations(results, metric, models):
        under = conditions(pick(data, perturbation=name))[0]
        yield Figure(f"{caption}, under {under}", partial(plot, results, perturbation=name, models=models))


SECTIONS = (
    Section(
        "accuracy",
        "Accuracy",
        "Each point is the share of the images that a model classifies correctly; attacks are made anew against "
        "each model. The line through it is the Wilson 95 % interval: it says how far the share may be off "
        "because only so many images were tried, not how much a stronger attack would take away. A weak or "
        "masked attack makes a model look robust, so read the pre-flight findings and the perturbation's "
        "settings (under Provenance) with this plot. Differences between models are best judged from the paired "
        "comparison in the verdict, not from whether two intervals overlap.",
        _accuracy,
        Numbers("accuracy", "condition", 3),
        ("accuracy",),
    ),
    Section(
        "evaluation",
        "Accuracy under perturbations",
        "Each point is the share of the images that a model classifies correctly on what the attack made of them for "
        "that very model; the line or band is the Wilson 95 % interval, which tells how far the share may be off with "
        "so many images, or, of groups of trainings, the t interval over them. Neither tells how much "
        "a stronger attack would take away: for that read the verdict and the doubts. Under an attack that works, a "
        "curve falls to 0 as eps grows. Differences between models are paired on the same images, in the verdict. "
        "Every image's outcome, loss, margin and cost is in results.nc.",
        _evaluation,
        Numbers("accuracy", "condition", 3),
        ("accuracy", "mean_loss", "images"),
    ),
    Section(
        "worst_case",
        "Worst case of all attacks",
        "An image stands at a budget only if the model is right on it clean and on whatever any attack made of it "
        "within that budget, as measured: an attack of a smaller eps counts too, and so does one that looks for the "
        "nearest error. This, not any single attack, is the number to quote, and still only an upper bound of the "
        "robust accuracy. What broke each image is in results.nc.",
        _worst_case,
        Numbers("worst_accuracy", "budget", 3),
        ("worst_accuracy",),
    ),
    Section(
        "minimum_norm",
        "Minimum norms",
        "How large the smallest perturbation is that an attack found, over the images that were right and that it "
        "broke; the percentage is the share that it broke, and a mean over the easy half of the images says little. "
        "It is an upper bound of the true distance, and as weak as the attack.",
        _minimum_norm,
        Numbers("mean", "condition", 4),
        ("mean", "median", "success"),
    ),
    Section(
        "boundary_distance",
        "Distance to the decision boundary",
        "The mean square of the smallest perturbation that was found, ||x′ − x||² / d over the d numbers of an image: "
        "the median over images, and of an attack that was repeated with other noise the mean of the medians. The "
        "interval is a bootstrap over images; small points are single repeats. An image that withstood the attack "
        "counts as farther than all others. Larger is more robust only if the attack came near the boundary: a "
        "decision-based attack of few steps measures where it started, so compare models by it and nothing else, and "
        "run it longer to see whether their order holds.",
        _boundary_distance,
        Numbers("median", "attack", 6),
        ("median", "repeat_median"),
    ),
    Section(
        "perturbation_spectrum",
        "Spatial frequencies of minimal perturbations",
        "What the nearest errors found are made of. Every image counts alike, however large its perturbation is; "
        "1 is white noise, high at the left means coarse changes, high at the right fine ones. In maps the middle is "
        "the mean of the image and the edges the finest stripes; a difference is orange where a network has to be "
        "attacked with more of that frequency. A decision-based attack starts from white noise: until it has taken "
        "thousands of steps a flat spectrum shows its start and not the network. The table has the power-weighted mean "
        "frequency in cycles per image. None of this says how large perturbations are.",
        _minimal_spectra,
        Numbers("centroid", "perturbation", 2),
        ("centroid", "low_frequency_share", "changed"),
    ),
    Section(
        "corruptions",
        "Common corruptions",
        "Accuracy under the corruptions of ImageNet-C and CIFAR-10-C, made afresh for these images. Nobody looks for "
        "the worst here, so it says nothing about attacks. Relative to a baseline, 100 % is the baseline's own error, "
        "corruption by corruption, and the mean of these ratios is the mean corruption error (mCE).",
        _corruptions,
        Numbers("error", "corruption", 3),
        ("error", "mean_error", "mean_accuracy", "group_accuracy"),
    ),
    Section(
        "landscape",
        "Loss landscape",
        "The loss on a plane through the images: upwards along the sign of the gradient, to the right along random "
        "signs. Where gradients can be trusted the loss rises smoothly upwards and hardly changes sideways. A plane "
        "that is flat or rough upwards and high elsewhere is a sign of masked gradients, but a few planes prove "
        "nothing. The table has the rise of the loss from the image to the upper edge.",
        _landscape,
        Numbers("rise", "image", 2),
        ("rise", "rise_random"),
    ),
    Section(
        "jacobian",
        "Norms of Jacobians",
        "How far the activations of a site move with the input, averaged over images: the Frobenius norm over all "
        "directions together, the operator norm along the one that moves them most. Small norms of the logits mean "
        "that small perturbations change little, if the logits of the networks are of one scale: a network twice as "
        "sure has twice the norm. Norms of inner sites depend on scales that later layers undo. Local, at the images: "
        "they bound nothing. Where a norm was estimated, the CSV file says so. Bands are bootstrap 95 % intervals.",
        _jacobian,
        Numbers("mean_frobenius", "site", 3),
        ("mean_frobenius", "mean_operator", "frobenius_method", "operator_method", "note"),
    ),
    Section(
        "distances",
        "Critical distances",
        "From every image that is right, the strength of a perturbation is raised step by step until the network errs. "
        "Curves are the share still right, of those right when clean; the legend has the clean accuracy, which they "
        "hide. Boxes go from quartile to quartile of the distances, a dash marks the median. Images that were never "
        "fooled (the percentage above a box) count as farther than all others, and the interval of the median respects "
        "that (Kaplan and Meier). Distances along attacks are upper bounds, as good as the attack: a stronger one may "
        "find nearer errors, so judge robustness by netprobe evaluate. Along random directions errors are farther.",
        _distances,
        Numbers("median", "walk", 3),
        ("median", "median_eps", "clean_accuracy"),
    ),
    Section(
        "units",
        "Spectra under images and noise",
        "Eigenvalues of the covariance of a layer's units, of the first so many in paler lines, under images and under "
        "white noise of the same shape. Much of what images show is inherited from them: compare with the input's own "
        "spectrum and with an untrained network. Noise shows the layer alone. Finite samples make every spectrum too "
        "steep, the more the fewer images there are for each unit, and the interval of the regression knows nothing of "
        "it: an exponent with a ~ is such a one. With --correction the bias is taken out, on the assumption that the "
        "power law goes on over all units, and the interval in brackets holds.",
        _units,
        Numbers("alpha", "site", 2),
        ("alpha", "alpha_jackknife", "alpha_corrected", "fit_first", "fit_last", "rank_numeric", "note"),
    ),
    Section(
        "plane",
        "A plane through an image",
        "What the network says at points of a plane through one image (the cross), far beyond anything that is an "
        "image: colours are classes, pale where it is unsure, lines are of equal confidence. Above, the norm of the "
        "Jacobian, each network on a scale of its own, in its title. One plane of one image is a picture, no measure.",
        _plane,
        Numbers("mean_frobenius", "axis", 2),
        ("mean_frobenius",),
    ),
    Section(
        "history",
        "How training went",
        "Accuracy over epochs: on what was trained on, as the weights were at every step and in train mode, and on "
        "held-out images, clean and, for a defense that attacks, under its own budget with PGD-10. The marker is the "
        "best epoch by held-out images, whose weights are best.pt; it was chosen by these very images, so its accuracy "
        "is a little flattered: judge a network on test images with netprobe evaluate. Bands are Wilson 95 % "
        "intervals. Robust accuracy that falls while accuracy on the training attack rises is robust overfitting; a "
        "fall to nothing within an epoch or two is catastrophic overfitting, of single-step attacks above all. Losses "
        "of different defenses are different quantities. Terms of regularisers are without their couplings.",
        _history,
        Numbers("accuracy", "epoch", 3),
        ("loss", "accuracy", "validation_accuracy", "validation_robust_accuracy", "lr", "images_per_second"),
    ),
    Section(
        "polarization",
        "Polarization of the front end",
        "What the filters put out, before the quantiser makes -1, 0 and 1 of it. A perturbation in the "
        "budget carries an output over a threshold (dashed) only from the danger zone around it (shaded), so the "
        "share of outputs there, given in each panel, is what training is to make small. The axis is logarithmic: an "
        "empty-looking gap may still hold percents. Background pixels put most outputs at 0 in every stage. Gaps alone "
        "prove no robustness, and on binary-looking images quantised pixels without any filter do as well: compare "
        "with pixel-quantisation, and judge by netprobe evaluate.",
        _polarization,
        Numbers("danger", "stage", 4),
        ("danger", "centre", "extreme", "threshold"),
    ),
    Section(
        "firing",
        "How often channels fire",
        "Share of the places of all images at which a channel of a HaH block is positive and among the tenth that is "
        "strongest, which is what the HaH loss raises. Channels are in order, from the one that fires most often. One "
        "that fires nearly everywhere (above the dashed line) tells nothing of an image: were the loss allowed to "
        "train the blocks below, a few such channels would satisfy it. A flat line near the dotted one means that all "
        "channels take their turn. How often channels fire says nothing of robustness: judge it by netprobe evaluate.",
        _firing,
        Numbers("always", "site", 0),
        ("always", "even"),
    ),
    Section(
        "settling",
        "How activations settle",
        "The steps of a self-consistent layer lower the energy E of its activations: how far they are from what the "
        "other units predict, plus λ times how badly the layer's input is rebuilt from them. E falls in every step as "
        "long as the step size is safe (attribute largest_safe_step of the dataset, a cautious bound) and the cap, "
        "whose share is in the table, is idle; the parts of E may rise. The dotted line is T, where the network stops: "
        "what happens beyond it is not part of it. Read-outs before T show what the steps change for the rest of the "
        "network, which only knows T; they say nothing of a network trained with fewer. A perturbation that the steps "
        "seem to undo was made against all of them, but by a weak attack: judge robustness by netprobe evaluate.",
        _settling,
        Numbers("residual", "step", 3),
        ("energy", "lateral", "reconstruction", "residual", "capped", "accuracy", "probability"),
    ),
    Section(
        "lateral",
        "Lateral weights",
        "Row i holds the weights by which the other units of a self-consistent layer predict unit i; the diagonal is "
        "0, for no unit predicts itself. Structure that is plain to see, such as rows of one sign, says that many "
        "units do the same thing. The order of units means nothing, and neither does the size of weights by itself: "
        "units may be rescaled. The table has the sizes that half, nine of ten, ... of all weights do not exceed.",
        _lateral,
        Numbers("size", "share", 3),
        ("size",),
    ),
    Section(
        "prototypes",
        "Prototypes",
        "Weights of some units of a layer that was learnt by the local rule, each drawn from its least to its largest. "
        "Units that have learnt look like parts of images; those that never won stay noise, keep a large variance, and "
        "are pruned: in the histogram they are the red ones, right of the cutoff. Red in the middle of the bulk means "
        "that the cutoff is wrong, much noise among the kept that learning was too short. The table says how "
        "learning ended: the share of units that came to the p-norm R, how many have a mean below -R/2, and the share "
        "that wins any sample, which a collapse to few units makes small while norms look well. How prototypes look "
        "says nothing of robustness: compare with the untrained control, by netprobe evaluate.",
        _prototypes,
        Numbers("outcome", "quantity", 3),
        ("outcome",),
    ),
    Section(
        "partial",
        "Partial adversarial training",
        "Networks whose early layers are trained one way and whose late layers another: 1 marks the part that was kept "
        "from a whole network trained that way, 2 the part that was drawn anew and trained on top of it or below it; A "
        "is adversarial, N natural, the early part comes first. All curves run from the naturally trained network (no "
        "adversarial layer) to the adversarially trained one (all), so compare codes at equal numbers of adversarial "
        "layers: the higher curve has its adversarial layers where they matter more. Accuracy under attack that stays "
        "near 0 hides gains that the loss shows. A cross is a network that failed to converge, clean accuracy near "
        "chance: its loss, about the logarithm of the number of classes, looks good and means nothing, and no mean "
        "counts it. Bands reach over the seeds and say nothing of other recipes. The attack is a single PGD: read the "
        "adversarial accuracy as an upper bound. The numbers below are means over cutoffs, t intervals over seeds.",
        _partial,
        Numbers("mean_adversarial_accuracy", "code", 3),
        (
            "clean_accuracy",
            "clean_loss",
            "adversarial_accuracy",
            "adversarial_loss",
            "converged",
            "trainable_parameters",
        ),
    ),
    Section(
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
    ),
    Section(
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
    ),
    Section(
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
    ),
    Section(
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
    ),
    Section(
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
    ),
    Section(
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
    ),
    Section(
        "similarity",
        "Which images are alike",
        "Every pixel of a panel is a pair of images: orange where the two look alike to the layer, purple where they "
        "are opposite, white where unrelated. All panels have one order of the images, in which neighbours look alike "
        "in the first panel; blocks that persist are groups that the layer keeps, new texture is what it adds. With "
        "centred cosines a mean of about 0 is no finding. The numbers below are "
        "means over pairs; the matrices are in results.nc.",
        _similarity,
        Numbers("mean_similarity", "site", 3),
        ("mean_similarity",),
    ),
    Section(
        "rsa",
        "Representational similarity analysis",
        "Over all pairs of images: does a layer find the same pairs alike as the pixels do, or as another matrix? 1 is "
        "the same order of pairs, 0 unrelated. Pairs share images, so their number means little: the band is a "
        "bootstrap over images, and the p-value of a reference comes from reordering its images. A small correlation "
        "can be far from chance and still say that the layer has left the pixels behind. Every layer and network is "
        "compared with every other in results.nc.",
        _rsa,
        Numbers("spearman", "site", 3),
        ("pearson", "spearman", "pearson_p", "spearman_p"),
    ),
    Section(
        "cka_matrix",
        "Similarity of layers",
        "Linear centred kernel alignment of every layer with every other, over the same images: 1 when two agree up "
        "to rotation and scale, about 0 when they share no linear structure. The unbiased estimate stays near 0 for "
        "unrelated layers however few images there are, and may be below it. It is led by the directions of largest "
        "variance, so a few images that stand out can make layers look alike; intervals leave out blocks of images. "
        "All numbers are in results.nc; those below are with the first layer.",
        _cka_matrix,
        Numbers("cka", "site", 3),
        ("cka",),
    ),
    Section(
        "gradcam",
        "Grad-CAM",
        "Where in the image the evidence for the explained class lies, at the site named above the grid: red "
        "places speak for it, blue ones against it. The number in a tile is the class predicted there. Every "
        "tile is scaled by its own largest magnitude, so compare places, not strengths. A few images prove "
        "nothing, and a plausible map is no evidence that the network is right; the stability under "
        "perturbation, and its control with redrawn weights if one was made, say more.",
        _gradcam,
        Numbers("stability", "image", 2),
        ("stability",),
    ),
    Section(
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
    ),
    Section(
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
    ),
    Section(
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
    ),
    Section(
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
    ),
)

"""How networks were trained."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.plots.partial_reading import mixed, parted, single
from netprobe.plots.reading import measured
from netprobe.plots.similarity_training import similarity_sites
from netprobe.reporting.sections.section import Figure, Numbers, Section


def _history(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Accuracy during training", partial(plots.plot_learning_curves, results, models=models))
    yield Figure("What was minimised", partial(plots.plot_training_loss, results, models=models))
    if any("regularisers" in results[model]["history"].attrs for model in models):
        draw = partial(plots.plot_training_terms, results, models=models)
        yield Figure("Losses, accuracies and the terms of regularisers", draw)
    if any(similarity_sites(results[model]["history"].to_dataset()) for model in models):
        draw = partial(plots.plot_similarity_training, results, models=models)
        yield Figure("What the similarity of pairs was drawn to, site by site", draw)


def _followed(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Loss, accuracy and Jacobians over epochs", partial(plots.plot_followed, results, models=models))


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


HISTORY = Section(
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
)

FOLLOWED = Section(
    "followed",
    "What training did, epoch by epoch",
    "Images that were not trained on, after some of the epochs, 0 being before the first step: their loss and "
    "accuracy, and how far the activations of a site move with the input, the mean Frobenius norm of the Jacobian. "
    "Accuracy that grows together with the norm is bought with smoothness; norms of inner sites depend on scales that "
    "later layers undo. Bands are 95 % intervals, over images, or over trainings where a line is the mean of several; "
    "the images are the same at every epoch, so that a step between epochs may be surer than the bands look.",
    _followed,
    Numbers("accuracy", "epoch", 3),
    ("accuracy", "mean_loss", "mean_frobenius", "mean_operator"),
)

PARTIAL = Section(
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
)

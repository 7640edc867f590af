"""What the layers of defenses do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.reporting.sections.section import Figure, Numbers, Section, alike


def _polarization(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    caption = "Filter outputs before the quantiser, stage by stage"
    yield Figure(caption, partial(plots.plot_polarization, results, models=models))
    for name in models:
        if "weight" in results[name]["polarization"]:
            yield Figure(f"Filters of {name}", partial(plots.plot_front_end_filters, results, models=[name]))


def _atoms(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for name in models:
        draw = partial(plots.plot_dictionary_atoms, results[name]["atoms"].to_dataset())
        yield Figure(f"Atoms of the dictionary of {name}, the most used first", draw)


def _code(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for name in models:
        draw = partial(plots.plot_code_steps, results[name]["code"].to_dataset())
        yield Figure(f"How {name} codes one patch", draw)


def _firing(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for group, whose in alike(results, "firing", models):
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


POLARIZATION = Section(
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
)

ATOMS = Section(
    "atoms",
    "The dictionary",
    "Patches of unit norm from which a sparse coding front end builds what is left of an image, each drawn from its "
    "least to its largest weight. Atoms that were learnt are smooth or edges; those that look like noise stayed as "
    "they began, because the penalty kept them idle. Many nearly uniform atoms are usual: so are patches. "
    "The length ||d||_1 of an atom is the most by which a perturbation of size 1 can change its coefficient, and the "
    "level that it is quantised to. The coherence is the mean |cosine| of two atoms: where it is large a perturbation "
    "easily makes one take the place of another among the T largest.",
    _atoms,
    Numbers("outcome", "quantity", 3),
    ("outcome", "use", "length", "brightness"),
)

CODE = Section(
    "code",
    "The code of a patch",
    "The coefficients of one patch of one training image, step by step: all projections, the T largest, those that "
    "dropout leaves, and what the quantiser makes of them, 0 or plus or minus a level. A perturbation acts on the "
    "first and is meant to be gone in the last. One patch proves nothing; it shows what the layers do.",
    _code,
    Numbers("left", "step", 0),
    ("left",),
)

FIRING = Section(
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
)

SETTLING = Section(
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
)

LATERAL = Section(
    "lateral",
    "Lateral weights",
    "Row i holds the weights by which the other units of a self-consistent layer predict unit i; the diagonal is "
    "0, for no unit predicts itself. Structure that is plain to see, such as rows of one sign, says that many "
    "units do the same thing. The order of units means nothing, and neither does the size of weights by itself: "
    "units may be rescaled. The table has the sizes that half, nine of ten, ... of all weights do not exceed.",
    _lateral,
    Numbers("size", "share", 3),
    ("size",),
)

PROTOTYPES = Section(
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
)

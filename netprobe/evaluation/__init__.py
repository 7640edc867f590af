"""Evaluate models under many perturbations, in units of work that survive a kill, and doubt the result.

conditions.py    what images are shown under, and what kind of perturbation it is; presets.py whole sets of them
outcomes.py      what became of some images: one unit of work
fingerprint.py   what a model or a perturbation is, as a hash
archive.py       finished units, a file each
rehearsal.py     what would stop it later, found before it begins
running.py       the units in turn: read or computed
datasets.py, worst_case.py, minimum_norm.py, boundary_distance.py, corruption_table.py, spectra.py, comparison.py
                 outcomes as labelled results
doubts/          signs that the attacks were weak or the gradients masked
landscape.py     the loss around an image
evaluating.py    `evaluate` itself; joining.py adds it to a probe
"""

from netprobe.evaluation.conditions import corruptions
from netprobe.evaluation.evaluating import Interrupted, evaluate
from netprobe.evaluation.joining import join
from netprobe.evaluation.landscape import loss_landscape
from netprobe.evaluation.presets import BlackBox, preset

__all__ = ["BlackBox", "Interrupted", "corruptions", "evaluate", "join", "loss_landscape", "preset"]

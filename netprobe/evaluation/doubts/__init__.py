"""Signs that attacks were weak or gradients masked: is the robustness real?

Half of the defenses of the literature fell because the evaluation was weak. Every check here has a symptom of that,
after Athalye et al. (ICML 2018, section 3.1), Carlini et al. (arXiv 1902.06705) and Croce and Hein (ICML 2020), and
compares shares of images by their intervals, paired where it can, so that chance raises no doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from netprobe.evaluation.conditions import Condition
from netprobe.evaluation.doubts.bounds import bounds
from netprobe.evaluation.doubts.detours import black_box, random_search, transfer
from netprobe.evaluation.doubts.gradients import other_loss, saturation, vanishing
from netprobe.evaluation.doubts.judgement import Judgement
from netprobe.evaluation.doubts.outputs import probabilities, randomness
from netprobe.evaluation.doubts.strength import huge_budget, monotone, more_effort, single_step
from netprobe.evaluation.doubts.suspect import Suspect
from netprobe.evaluation.running import Runner, Table
from netprobe.guard import full_precision, undisturbed

CHECKS: tuple[Callable[[Suspect], Judgement], ...] = (
    probabilities,
    saturation,
    vanishing,
    randomness,
    bounds,
    other_loss,
    single_step,
    more_effort,
    huge_budget,
    monotone,
    transfer,
    random_search,
    black_box,
)
"""Causes first, then symptoms: the verdict gives reasons in this order."""


def doubts(runner: Runner, conditions: Sequence[Condition], tables: Mapping[str, Mapping[str, Table]]) -> xr.Dataset:
    """/doubts: for every model a verdict, and for every check of CHECKS its evidence and, if there is one, its finding.

    finding   model, check, severity, evidence, remedy: what speaks against the numbers; as the pre-flight's
    row       the evidence of every check, flagged or not: quantity, value, low, high (95 %), images, limit; status is
              "passed", "flagged" or "not run", the quantity then being why
    subject   verdict (a sentence) and how many checks were made and could not be

    Cost: attacks on `probe_images` images, about as much as 250 images under the strongest attack; they are kept as
    units of work. Extra forward and backward passes of these images besides.
    """
    judged = {name: _judged(name, runner, conditions, own) for name, own in tables.items()}
    return _dataset(judged)


def _judged(name: str, runner: Runner, conditions: Sequence[Condition], tables: Mapping[str, Table]) -> list[Judgement]:
    with tqdm(total=0, desc=f"{name}, doubts", unit="image", disable=not runner.chosen.progress) as bar:
        suspect = Suspect(name, runner, conditions, tables, bar)
        with undisturbed(suspect.model), full_precision():
            return [check(suspect) for check in CHECKS]


def verdict(judged: Sequence[Judgement]) -> str:
    """One sentence."""
    made = [each for each in judged if not each.unable]
    left = f" ({len(judged) - len(made)} could not be run)" if len(made) < len(judged) else ""
    reasons = [each.reason for each in judged if each.doubtful]
    if reasons:
        return f"do not trust the accuracies under attack because {'; '.join(reasons)}"
    return f"no sign of masked gradients in {len(made)} checks{left}"


def _dataset(judged: Mapping[str, Sequence[Judgement]]) -> xr.Dataset:
    findings = [
        (name, f.severity, f.check, f.evidence, f.remedy)
        for name, every in judged.items()
        for f in filter(None, (each.finding for each in every))
    ]
    rows = [row for name, every in judged.items() for each in every for row in _rows(name, each)]
    columns = _texts("finding", ("model", "severity", "check", "evidence", "remedy"), findings)
    columns |= _texts("row", ("row_model", "row_check", "status", "quantity", "limit"), [row[:5] for row in rows])
    for place, name in enumerate(("value", "low", "high", "images")):
        about = {"long_name": name, "units": "1", "definition": ROW_DEFINITIONS[name]}
        columns[name] = ("row", np.array([row[5 + place] for row in rows], dtype=float), about)
    sentences = [(verdict(every),) for every in judged.values()]
    columns |= _texts("subject", ("verdict",), sentences)
    for name, made in (("checks", False), ("not_run", True)):
        counts = [sum(bool(each.unable) == made for each in every) for every in judged.values()]
        about = {"long_name": name.replace("_", " "), "units": "1", "definition": ROW_DEFINITIONS[name]}
        columns[name] = ("subject", np.array(counts), about)
    return xr.Dataset(columns, {"subject": list(judged)})


def _rows(name: str, judgement: Judgement) -> list[tuple]:
    if judgement.unable:
        return [(name, judgement.check, judgement.status, judgement.unable, "", np.nan, np.nan, np.nan, 0)]
    return [
        (name, judgement.check, judgement.status, e.quantity, e.limit, e.value, e.low, e.high, e.images)
        for e in judgement.evidence
    ]


ROW_DEFINITIONS = {
    "model": "the model that the finding is about",
    "severity": "error: the numbers mean nothing; warning: they are doubtful; note: an explanation",
    "check": "which check",
    "evidence": "what was seen",
    "remedy": "what to do about it",
    "row_model": "the model that the evidence is about",
    "row_check": "the check that it is evidence of",
    "status": "passed, flagged or not run",
    "quantity": "what the value is; of a check that was not run, why",
    "limit": "what the value is judged by",
    "value": "the number",
    "low": "lower end of its 95 % interval; NaN if it has none",
    "high": "upper end of its 95 % interval; NaN if it has none",
    "images": "number of images that it is measured on",
    "verdict": "whether to trust the accuracies under attack",
    "checks": "number of checks made",
    "not_run": "number of checks that could not be made",
}


def _texts(dim: str, names: Sequence[str], rows: Sequence[tuple]) -> dict[str, tuple]:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    about = [{"long_name": n.replace("_", " "), "units": "1", "definition": ROW_DEFINITIONS[n]} for n in names]
    return {
        name: (dim, np.array(column, dtype=object), attrs)
        for name, column, attrs in zip(names, columns, about, strict=True)
    }

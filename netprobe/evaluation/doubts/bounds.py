"""Did the attacks keep to their ball and to the range of inputs?"""

from __future__ import annotations

import numpy as np

from netprobe.evaluation.conditions import Condition
from netprobe.evaluation.doubts.judgement import Evidence, Judgement
from netprobe.evaluation.doubts.suspect import Suspect
from netprobe.evaluation.worst_case import SLACK


def bounds(suspect: Suspect) -> Judgement:
    """An x' outside its budget or outside the inputs' range breaks the rules, and its verdict means nothing."""
    check = "ball and box"
    changing = [c for c in suspect.conditions if c.perturbation is not None]
    if not changing:
        return Judgement(check, unable="there are no perturbations")
    inside = [c for c in changing if c.budget and f"size_{c.norm}" in suspect.tables[c.name].columns]
    excess = {c.name: _excess(suspect, c) for c in inside}
    outside = {c.name: _outside(suspect, c) for c in changing}
    wrong = [name for name, most in excess.items() if most > SLACK] + [n for n, most in outside.items() if most > SLACK]
    evidence = (
        Evidence("largest relative excess over eps", max(excess.values(), default=0.0), limit=f"{SLACK:g}"),
        Evidence("largest excess over the range of inputs", max(outside.values()), limit=f"{SLACK:g}"),
    )
    names = ", ".join(dict.fromkeys(wrong))
    reason = f"{names} left the ball or the range of inputs" if wrong else ""
    return Judgement(check, evidence, reason, "Project into the ball, clip to the range, and attack again.", "error")


def _excess(suspect: Suspect, condition: Condition) -> float:
    size = suspect.tables[condition.name][f"size_{condition.norm}"]
    return float(max((size - condition.eps - SLACK).max(), 0) / max(condition.eps, SLACK)) if size.size else 0.0


def _outside(suspect: Suspect, condition: Condition) -> float:
    table = suspect.tables[condition.name]
    return float(np.max([suspect.box.low - table["lowest"].min(), table["highest"].max() - suspect.box.high, 0.0]))

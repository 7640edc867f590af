"""Two ways in which adversarial training goes wrong with time, seen in its history.

A history is a list of records, one an epoch, with `accuracy` (on the attacked training images) and, where there was
robust validation, `validation_robust_accuracy` and its Wilson interval.
"""

from __future__ import annotations

import math
from typing import Any

ROBUST = "validation_robust_accuracy"
INTERVAL = f"{ROBUST}_interval"


def catastrophe(history: list[dict[str, Any]]) -> str | None:
    """Catastrophic overfitting in the last epoch, in words; None: not seen.

    Robust validation accuracy is surely below that of the best epoch before (the intervals are apart) while the
    accuracy on the attack that is trained on is not: the network has learnt to fool that attack only. Wong, Rice and
    Kolter, ICLR 2020.
    """
    best = best_epoch(history[:-1])
    if best is None or not _surely_below(history[-1], best):
        return None
    if history[-1]["accuracy"] < best["accuracy"]:
        return None
    return (
        f"catastrophic overfitting: robust validation accuracy fell from {best[ROBUST]:.1%} (epoch {best['epoch']}) to "
        f"{history[-1][ROBUST]:.1%} while accuracy on the training attack rose from {best['accuracy']:.1%} to "
        f"{history[-1]['accuracy']:.1%}; train with several steps, or a shorter one"
    )


def robust_overfitting(history: list[dict[str, Any]]) -> str | None:
    """Robust overfitting by the end of training, in words; None: not seen.

    Robust validation accuracy at the end is surely below that of the best epoch. Rice, Wong and Kolter, ICML 2020.
    """
    best = best_epoch(history)
    if best is None or not _surely_below(history[-1], best):
        return None
    return (
        f"robust overfitting: robust validation accuracy was {best[ROBUST]:.1%} at epoch {best['epoch']} and is "
        f"{history[-1][ROBUST]:.1%} at the end; the best epoch is the result, and fewer epochs would do"
    )


def best_epoch(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The record of the largest robust validation accuracy, the first of equals; None if there is none."""
    measured = [record for record in history if not math.isnan(record.get(ROBUST, math.nan))]
    return max(measured, key=lambda record: record[ROBUST], default=None)


def _surely_below(record: dict[str, Any], best: dict[str, Any]) -> bool:
    return ROBUST in record and record[INTERVAL][1] < best[INTERVAL][0]

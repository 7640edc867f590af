"""Which epoch is the best, and whether to go on, told from the records of epochs and a criterion."""

from __future__ import annotations

from typing import Any

LOSS = "validation_loss"
"""The one criterion of which less is better."""


def merits(history: list[dict[str, Any]], criterion: str | None) -> list[float]:
    """How good every epoch is, larger is better: its criterion, or minus its loss. Empty where there is none."""
    if criterion is None:
        return []
    sign = -1 if criterion == LOSS else 1
    return [sign * record[criterion] for record in history]


def best_index(history: list[dict[str, Any]], criterion: str | None, first: int = 0) -> int:
    """The epoch of the best criterion, the first of equals, of those from `first` on if there are any.

    The last epoch where there is no criterion.
    """
    if criterion is None:
        return len(history) - 1
    return max(range(min(first, len(history) - 1), len(history)), key=merits(history, criterion).__getitem__)


def out_of_patience(history: list[dict[str, Any]], criterion: str | None, patience: int, first: int = 0) -> str | None:
    """Why to stop: `patience` epochs (0: any number), all from `first` on, have brought nothing better; None: go on."""
    if not patience or len(history) <= first:
        return None
    idle = len(history) - 1 - best_index(history, criterion, first)
    return f"stopped after {idle} epochs without a better {criterion}" if idle >= patience else None

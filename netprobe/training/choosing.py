"""Which epoch is the best, and whether to go on, told from the records of epochs and a criterion: larger is better."""

from __future__ import annotations

from typing import Any


def best_index(history: list[dict[str, Any]], criterion: str | None) -> int:
    """The epoch of the largest criterion, the first of equals; the last epoch where there is no criterion."""
    if criterion is None:
        return len(history) - 1
    return max(range(len(history)), key=lambda i: history[i][criterion])


def out_of_patience(history: list[dict[str, Any]], criterion: str | None, patience: int) -> str | None:
    """Why to stop: `patience` epochs (0: any number) have brought nothing better; None: go on."""
    idle = len(history) - 1 - best_index(history, criterion)
    if not patience or idle < patience:
        return None
    return f"stopped after {idle} epochs without a better {criterion}"

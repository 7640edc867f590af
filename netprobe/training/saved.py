"""Training on disk: the file to go on from, and the checkpoint that others load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netprobe.errors import CheckpointError
from netprobe.models.reading import read
from netprobe.store import atomically

LAST, BEST, PREPARING, HISTORY = "last.pt", "best.pt", "preparing.pt", "history.jsonl"
CARD = "netprobe"
"""The key under which a checkpoint says, in plain values, what it is: enough to build the network again."""


def save_checkpoint(path: Path, model: nn.Module, card: dict[str, Any], **more: Any) -> None:
    """Write weights and card, and what else is given; tensors and plain values only, read without running code."""
    contents = {"state_dict": model.state_dict(), CARD: json.loads(json.dumps(card)), **more}
    atomically(path, lambda part: torch.save(contents, part))


def stage_file(number: int) -> str:
    """What the network at the end of stage `number`, from 1, is called."""
    return f"stage-{number}.pt"


def epoch_file(number: int) -> str:
    """What the network after epoch `number` is called; 0 is before the first step."""
    return f"epoch-{number}.pt"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote."""
    contents = read(path)
    if not isinstance(contents, dict) or CARD not in contents:
        raise CheckpointError(f"{path} was not written by `netprobe train`")
    return contents


def write_history(folder: Path, history: list[dict]) -> None:
    """One JSON object an epoch and line."""
    text = "".join(json.dumps(record) + "\n" for record in history)
    atomically(folder / HISTORY, lambda part: part.write_text(text))

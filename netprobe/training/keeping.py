"""What a training leaves behind while it runs: the state to go on from, the best weights, the history."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from netprobe.processes import Processes
from netprobe.store.scratch import Scratch
from netprobe.training.saved import BEST, LAST, PREPARING, epoch_file, save_checkpoint, stage_file, write_history


class Keeper:
    """Keeps in `folder`, or the best weights alone in memory where there is none. One process writes for all.

    scratch : a place for what a defense learns before the first step, until that is among the weights that are saved.
    """

    def __init__(self, card: dict[str, Any], folder: Path | None, together: Processes, save_every: float) -> None:
        self.card, self.folder, self.together, self.save_every = card, folder, together, save_every
        self.weights: dict[str, Tensor] | None = None
        self.stages: list[dict[str, Tensor]] = []
        self.epochs: dict[int, dict[str, Tensor]] = {}
        self.saved_at = time.monotonic()
        place = None if folder is None else folder / PREPARING
        self.scratch = Scratch(place, card["key"], save_every, together.leads)

    @property
    def writes(self) -> bool:
        return self.folder is not None and self.together.leads

    @property
    def due(self) -> bool:
        """Whether to save inside an epoch; of several processes each holds a part of its sums, so none can."""
        return self.together.local and time.monotonic() - self.saved_at >= self.save_every

    def best(self, network: nn.Module, epoch: int) -> None:
        """The weights of the best epoch so far."""
        if self.folder is None:
            self.weights = copied(network)
        elif self.writes:
            save_checkpoint(self.folder / BEST, network, self.card | {"epoch": epoch})

    def stage(self, network: nn.Module, number: int) -> None:
        """The weights that stage `number`, from 1, ends with."""
        if self.folder is None:
            self.stages.append(copied(network))
        elif self.writes:
            save_checkpoint(self.folder / stage_file(number), network, self.card)

    def epoch(self, network: nn.Module, number: int) -> None:
        """The weights after epoch `number`, which the recipe asks to keep."""
        if self.folder is None:
            self.epochs[number] = copied(network)
        elif self.writes:
            save_checkpoint(self.folder / epoch_file(number), network, self.card | {"epoch": number})

    def last(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Where training is."""
        if self.writes:
            save_checkpoint(self.folder / LAST, model, self.card, training=state)
            self.scratch.forget()  # what was learnt before the first step is among the weights now
            self.saved_at = time.monotonic()

    def history(self, records: list[dict[str, Any]]) -> None:
        if self.writes:
            write_history(self.folder, records)

    @property
    def where(self) -> str:
        """Where to go on from, in words."""
        return f"The last good state is in {self.folder / LAST}. " if self.folder else ""


def copied(network: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

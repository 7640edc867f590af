"""What all defenses are: frozen settings that say how training differs from plain training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import xarray as xr
from torch import Tensor, nn

from netprobe.data import Data
from netprobe.fields import Checked
from netprobe.perturb.base import Perturbation
from netprobe.recipes import Recipe
from netprobe.store.scratch import Scratch


@dataclass(frozen=True, kw_only=True, repr=False)
class Defense(Checked, ABC):
    """How training with this defense differs from plain training; the loop never asks which one it is.

    To write one: fields with metadata (`netprobe.fields`) as settings, `loss`, and whichever of the other methods
    differ from what is here. A line in `defenses.specs`, or an entry point of a package of yours in the group
    "netprobe.defenses", gives it a name on the command line; `netprobe.testing.check_defense` checks it.
    """

    name: ClassVar[str]  # in specs and on the command line
    title: ClassVar[str]  # in results and legends
    recorded: ClassVar[Mapping[str, tuple[str, str, str]]] = {}
    """Long name, unit and definition of what `records`, or `loss` beside the loss, puts into the history."""

    def completed(self, data: Data) -> Self:
        """The same with every setting known: those left to the training images are told from them."""
        return self

    def channels(self, channels: int) -> int:
        """Input channels of the plain network, where images have so many."""
        return channels

    def build(self, model: nn.Module) -> nn.Module:
        """The network that is trained and evaluated, made from a plain one: with a front end, other layers, ..."""
        return model

    def prepare(self, model: nn.Module, data: Data, seed: int, progress: bool, scratch: Scratch) -> None:
        """Learn, in place, what is not learnt by gradient steps and comes before them, such as a dictionary.

        It must follow from the arguments alone, and all of it be in the state dict: it is not asked for again where a
        training goes on. What takes long may keep in `scratch` what it has so far, and begins with what it finds there.
        """

    def published(self, architecture: str, shape: tuple[int, ...]) -> Recipe | None:
        """How the work that the defense comes from trained such a network on inputs of that shape, for the preset
        "paper"; None: as the network is trained without it.
        """
        return None

    @property
    def cycled(self) -> bool:
        """Whether a cyclic learning rate begins anew in every stage."""
        return False

    def stages(self, epochs: int) -> tuple[int, ...]:
        """The first epoch of every stage of a training of so many, from 0. Only the last stage's networks may be the
        result; those that earlier stages end with are kept beside it.
        """
        return (0,)

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Make `model` ready for that epoch: what is trained (`requires_grad`), what its layers do in train mode.

        A function of its arguments alone, so that training can go on from any epoch. Where another set of parameters
        is to be trained than before, the optimiser begins anew with those.
        """

    @abstractmethod
    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        """What to minimise on a batch x (B, ...) in [0, 1] with labels y (B,).

        model : in train mode; every forward pass of it moves the statistics of batch norm.
        generator : for noise; on a CPU an `ImageGenerator` for these images in this epoch, on a GPU one of the GPU's
            own that was seeded for this step.
        copy : the module to take input gradients from, where `needs_copy`: the same function as `model` in eval mode,
            faster (see `perturb.attack_copy`), its weights as of now. Else `model` itself.

        Returns "loss", the mean over the batch of what is minimised, a scalar; "logits" (B, K) on what was trained on;
        and any further scalar under a name of its own, which appears in the history.
        """

    @property
    def needs_copy(self) -> bool:
        """Whether `loss` uses the attack copy."""
        return False

    @property
    def draws(self) -> bool:
        """Whether `loss` uses the generator; None takes its place where it does not."""
        return True

    def check_range(self, low: float, high: float) -> None:
        """Refuse training inputs that go from `low` to `high`; asked once, so that `loss` need not check them."""

    def validation_attack(self) -> Perturbation | None:
        """The attack under which validation images tell the best epoch; None: the clean images do."""
        return None

    def records(self, model: nn.Module) -> dict[str, float]:
        """What the history holds of the network as it is after an epoch, by name, such as a norm of its weights."""
        return {}

    def views(self, stages: Mapping[str, nn.Module], data: Data) -> dict[str, xr.Dataset]:
        """What a report of the training shows besides its history, by the name of its section.

        stages : networks at the end of every stage, by name, the finished one last; data : some training images.
        """
        return {}

    def stops(self, history: list[dict]) -> str | None:
        """Why to stop after the last epoch of `history`, one record an epoch; None: go on."""
        return None

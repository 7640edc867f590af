"""What all regularisers are: frozen settings of a term that joins the loss of any defense."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.data import Data
from netprobe.fields import Checked, real
from netprobe.processes import Processes
from netprobe.recipes import Recipe
from netprobe.sites import Site, find_sites, select

Survey = Callable[[Iterable[Site], Callable[[Site, Tensor], None]], None]
"""`survey(sites, take)` runs the network in eval mode, without gradients, over this process's share of all training
images, augmented as in the epoch that begins, and hands `take` every site's tensor, images first.
"""


@dataclass(frozen=True, eq=False)
class Subject:
    """The network that is to be regularised, and what it is trained on.

    example : inputs like those of training, two or more.
    images : how many there are in the training set.
    batch_size : images of a step, all processes together.
    data : the training set itself.
    augmented : the images of any set, as they are stored, on the network's device, each augmented once as training
        images are in the first epoch.
    placed : likewise, as they are.
    kept : (M,) bool, which of the M images that were given for training are in `data`, the others being held out; None:
        all of them.
    """

    model: nn.Module
    example: Tensor
    images: int
    batch_size: int
    data: Data | None = None
    augmented: Callable[[Data], Tensor] = lambda data: data.stored
    placed: Callable[[Data], Tensor] = lambda data: data.stored
    kept: Tensor | None = None

    @cached_property
    def sites(self) -> list[Site]:
        """Every site of the network, in run order."""
        return find_sites(self.model, self.example)

    def named(self, patterns: str) -> list[Site]:
        """The sites that patterns joined by "+" choose; an error if there is none.

        As in `netprobe.sites.selection`, but a site's very name means that site alone, though it be that of a kind of
        layer.
        """
        parts = [patterns] if patterns.startswith("re:") else patterns.split("+")
        exact = {site for site in self.sites if site.name in parts and site.batch_axis is not None}
        others = [part for part in parts if part not in {site.name for site in exact}]
        chosen = exact.union(select(self.sites, others) if others else ())
        return [site for site in self.sites if site in chosen]


@dataclass(frozen=True, eq=False)
class Step:
    """What a penalty sees of a training step: the forward pass whose logits the defense's loss returns.

    That is the only one of natural training, the one on adversarial images of adversarial training, and the one on
    clean images of TRADES.

    values : by name, the tensor (B, ...) at each of the penalty's `sites`, as it was when it was made.
    variables : by name, the tensor at each of its `variables`, to differentiate with respect to.
    generator : fresh random numbers, of the penalty's `draws`; on a CPU an `ImageGenerator` for these images.
    total : the sum of a tensor over all processes, through which gradients flow.
    share : this process's part of rows that are the same on all.
    precision : a context in which passes have the precision of training.
    """

    values: dict[str, Tensor]
    variables: dict[str, Tensor]
    generator: torch.Generator | None
    total: Callable[[Tensor], Tensor]
    share: Callable[[Tensor], Tensor]
    precision: Callable[[], contextlib.AbstractContextManager]


class Penalty(nn.Module, ABC):
    """The term R of a regulariser for one network: (model, step) -> a scalar, the mean over this process's images.

    What it remembers from step to step or from epoch to epoch are its buffers, what it learns its parameters: both are
    saved with the state of training, the parameters are trained with those of the network. The network is none of its
    modules.
    """

    sites: tuple[Site, ...] = ()
    """Whose tensors it asks for."""
    variables: tuple[Site, ...] = ()
    """The sites with respect to which it differentiates others."""
    draws: bool = False
    """Whether it asks for random numbers."""
    described: Mapping[str, tuple[str, str, str]] = {}
    """Long name, unit and definition of what `records` puts into the history."""

    def begin_epoch(self, model: nn.Module, survey: Survey, together: Processes) -> None:
        """Look at the network, or through `survey` at what it makes of the whole training set, as an epoch begins.

        Not asked for again where training goes on within an epoch: the buffers hold what was found then.
        """

    @abstractmethod
    def forward(self, model: nn.Module, step: Step) -> Tensor:
        """R, in float32 or better, without the coupling."""

    def records(self, together: Processes) -> dict[str, float]:
        """What the history holds of it besides R, by name, as an epoch ends; every process asks."""
        return {}


class Sum(Penalty):
    """The sum of penalties, one for each of several sites."""

    def __init__(self, parts: Iterable[Penalty]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.sites = tuple(site for part in self.parts for site in part.sites)
        self.variables = tuple(site for part in self.parts for site in part.variables)
        self.draws = any(part.draws for part in self.parts)

    def begin_epoch(self, model: nn.Module, survey: Survey, together: Processes) -> None:
        for part in self.parts:
            part.begin_epoch(model, survey, together)

    def forward(self, model: nn.Module, step: Step) -> Tensor:
        return torch.stack([part(model, step) for part in self.parts]).sum()


@dataclass(frozen=True, kw_only=True, repr=False)
class Regulariser(Checked, ABC):
    """Adds coupling * R to the loss of any defense; the defense knows nothing of it.

    With coupling=0 R is recorded in the history and training is, bit for bit, what it would be without.

    To write one: fields with metadata (`netprobe.fields`) as settings, and `penalty`. A line in `regularisers.specs`,
    or an entry point of a package of yours in the group "netprobe.regularisers", gives it a name on the command line;
    `netprobe.testing.check_regulariser` checks it.
    """

    name: ClassVar[str]  # in specs, on the command line and, with _ for -, in the history
    title: ClassVar[str]  # in results and legends
    examples: ClassVar[tuple[str, ...]] = ()  # specs to show where the settings alone do not tell

    coupling: float = field(metadata=real(0, help="what the term is multiplied with; 0: only record it"))

    @abstractmethod
    def penalty(self, subject: Subject) -> Penalty:
        """The term for that network; raises NetprobeError where it makes no sense there."""

    @abstractmethod
    def recorded(self) -> tuple[str, str, str]:
        """Long name, unit and definition of R in the history."""

    def contents(self) -> dict[str, str]:
        """A hash for every setting that names a file: with other contents it is another training."""
        return {}

    @property
    def ordered(self) -> bool:
        """Whether all images given for training must be there, in their order."""
        return False

    def published(self, architecture: str, shape: tuple[int, ...]) -> Recipe | None:
        """As `Defense.published`: how the work that it comes from trained with it, where nothing else was done."""
        return None


def wide(tensor: Tensor) -> Tensor:
    """`tensor` in float32, or in float64 if it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

"""How regularisers join the loss of a defense, and what of them is saved."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from netprobe.defenses import DEFENSES, Defense, parse_defense
from netprobe.defenses.natural import Natural
from netprobe.defenses.regularisers import (
    REGULARISERS,
    Regulariser,
    Step,
    Subject,
    describe_regulariser,
    parse_regulariser,
)
from netprobe.defenses.regularisers.watching import watching
from netprobe.errors import NetprobeError, unknown
from netprobe.guard import undisturbed
from netprobe.processes import Processes
from netprobe.sites import Site, listening
from netprobe.training.synced import summed

if TYPE_CHECKING:
    from netprobe.training.device_data import DeviceData

UNREGULARISED = "unregularised_loss"
"""The record of what the defense alone minimises, where there are regularisers."""
CONTENTS = "contents"


def asked(
    defense: str | Defense | Regulariser, regularise: str | Regulariser | Iterable[str | Regulariser] = ()
) -> tuple[Defense, tuple[Regulariser, ...]]:
    """The defense and the regularisers that are named; one in the place of the defense joins natural training."""
    several = [regularise] if isinstance(regularise, str | Regulariser) else list(regularise)
    name = defense.partition(":")[0].strip() if isinstance(defense, str) else None
    elsewhere = name is not None and name not in DEFENSES
    if elsewhere and name not in REGULARISERS:
        raise unknown("defense or regulariser", name, [*DEFENSES, *REGULARISERS])
    if elsewhere or isinstance(defense, Regulariser):
        defense, several = Natural(), [defense, *several]
    return parse_defense(defense), tuple(parse_regulariser(one) for one in several)


def described(regularisers: Iterable[Regulariser]) -> list[dict[str, Any]]:
    """What a checkpoint tells of each: its settings, and under "contents" hashes of the files that they name."""
    return [
        describe_regulariser(one) | ({CONTENTS: contents} if (contents := one.contents()) else {})
        for one in regularisers
    ]


def by_contents(told: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Regularisers as `described` tells them, wherever their files are: hashes stand for the paths."""
    return [{name: value for name, value in one.items() if name != CONTENTS} | one.get(CONTENTS, {}) for one in told]


def settings_apart(there: Sequence[dict[str, Any]], here: Sequence[dict[str, Any]]) -> str:
    """The settings in which regularisers of the same kinds differ, ": another coupling"; nothing of other kinds."""
    if [one["regulariser"] for one in there] != [one["regulariser"] for one in here]:
        return ""
    pairs = list(zip(there, here, strict=True))
    names = {name for one, other in pairs for name in {*one, *other} if one.get(name) != other.get(name)}
    return f": another {', '.join(sorted(names))}"


class Regularisation(nn.Module):
    """The penalties of one training, by the names that they have in its history.

        loss = loss of the defense + sum_r coupling_r R_r

    A name is that of the regulariser, with a number from the second of its kind on. Terms are computed in float32 or
    better, whatever the precision of the forward pass.
    """

    def __init__(self, regularisers: Sequence[Regulariser], subject: Subject | None = None) -> None:
        super().__init__()
        self.settings = dict(zip(_names(regularisers), regularisers, strict=True))
        self.penalties = nn.ModuleDict({name: one.penalty(subject) for name, one in self.settings.items()})
        every = list(self.penalties.values())
        self.sites = [site for penalty in every for site in penalty.sites]
        self.variables = [site for penalty in every for site in penalty.variables]
        self.draws = any(penalty.draws for penalty in every)

    def __bool__(self) -> bool:
        return len(self.penalties) > 0

    def check_compiled(self) -> None:
        """Refuse what a compiled network hides."""
        if self.sites or self.variables:
            raise NetprobeError(
                f"{', '.join(self.settings)}: sites cannot be watched inside of a compiled network: set compile=False, "
                "or use l2 and spectral-norm alone"
            )

    @property
    def recorded(self) -> dict[str, tuple[str, str, str]]:
        """Long name, unit and definition of what `joined` adds to the history."""
        if not self:
            return {}
        alone = ("training loss without regularisers", "nat", "mean over the epoch of the loss of the defense alone")
        terms = {name: one.recorded() for name, one in self.settings.items()}
        return {UNREGULARISED: alone} | terms | self._of_each(lambda penalty: penalty.described)

    def records(self, together: Processes) -> dict[str, float]:
        """What the history holds of the penalties as an epoch ends."""
        return self._of_each(lambda penalty: penalty.records(together))

    def _of_each(self, told: Callable[[nn.Module], dict]) -> dict:
        """What every penalty tells, by the penalty's name and its own."""
        each = {name: told(penalty) for name, penalty in self.penalties.items()}
        return {f"{name}_{key}": value for name, found in each.items() for key, value in found.items()}

    def begin_epoch(self, model: nn.Module, data: DeviceData, epoch: int, batch_size: int, together: Processes) -> None:
        """Let the penalties look at what the network makes of the training set now."""

        def survey(sites: Iterable[Site], take: Callable[[Site, Tensor], None]) -> None:
            rows = together.share(torch.arange(len(data)))
            with undisturbed(model), torch.no_grad(), listening(model, list(sites), take):
                for part in rows.split(batch_size):
                    model(data.batch(part, epoch)[0])

        for penalty in self.penalties.values():
            penalty.begin_epoch(model, survey, together)

    def joined(
        self,
        loss: Callable[[], dict[str, Tensor]],
        model: nn.Module,
        generator: torch.Generator | None,
        together: Processes,
    ) -> dict[str, Tensor]:
        """The terms of `loss()`, which runs `model`, with those of the penalties; "loss" is then the sum of all."""
        if not (self and torch.is_grad_enabled()):
            return loss()
        with watching(model, self.sites, self.variables) as watch:
            terms = loss()
        seen = watch.of(terms["logits"]) if self.sites or self.variables else None
        values, variables = (seen.values, seen.variables) if seen else ({}, {})
        kind = terms["logits"].device.type
        precision = _precision(kind)
        step = Step(values, variables, generator, lambda part: summed(part, together), together.share, precision)
        with torch.autocast(kind, enabled=False):
            found = {name: penalty(model, step) for name, penalty in self.penalties.items()}
        total = terms["loss"]
        for name, value in found.items():
            if coupling := self.settings[name].coupling:
                total = total + coupling * value
        return {**terms, "loss": total, UNREGULARISED: terms["loss"], **found}


def _precision(device: str) -> Callable[[], contextlib.AbstractContextManager]:
    """Contexts of the precision that passes have here."""
    reduced, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype, enabled=reduced)


def _names(regularisers: Sequence[Regulariser]) -> list[str]:
    """jacobian, jacobian_2, l2, ..."""
    plain = [one.name.replace("-", "_") for one in regularisers]
    counts = [plain[: at + 1].count(name) for at, name in enumerate(plain)]
    return [name if count == 1 else f"{name}_{count}" for name, count in zip(plain, counts, strict=True)]

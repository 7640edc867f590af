"""Transfer: images made against one model, shown to another."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netprobe.devices import device_of
from netprobe.errors import NetprobeError
from netprobe.perturb.attack import Count
from netprobe.perturb.attacked import Attacked
from netprobe.perturb.backward import declared_passes
from netprobe.perturb.frozen import frozen
from netprobe.perturb.gradient import GradientAttack
from netprobe.perturb.objective import Goal
from netprobe.perturb.randomness import select
from netprobe.perturb.specs import apply, eps_of, family, resolve
from netprobe.perturb.standing import Progress, predict_all
from netprobe.store import model_card
from netprobe.store.fingerprint import fingerprint


class Surrogate:
    """A model, known by what it computes: its class, settings and weights."""

    def __init__(self, model: nn.Module) -> None:
        card = model_card(model)
        self.model, self.sha256 = model, card["sha256"]
        self._name, self._print = card["class"], fingerprint(model)

    def __repr__(self) -> str:
        return f"{self._name} of sha256 {self.sha256}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Surrogate) and self._print == other._print

    def __hash__(self) -> int:
        return hash(self._print)


@dataclass(frozen=True)
class Transfer:
    """Perturb inputs to fool `surrogate`, and show them to the model that is asked about: x' = attack(surrogate, x, y).

    Parameters
    ----------
    attack : any perturbation or spec, such as "pgd:eps=8/255". It is called, so that it makes all its steps: a search
        that stops as soon as the surrogate is fooled would hardly transfer.
    surrogate : the model to craft on; same inputs and classes. Its weights are hashed once, here: results name it by
        their SHA-256.

    A transferred attack that is stronger than the same attack on the model itself tells of masked gradients. `fool`
    leaves alone what the model gets wrong anyhow. `forwards` counts the surrogate's passes (a mean over the batch) and
    the model's two; backward passes are not known, and given as -1. Papernot et al., 2016.
    """

    attack: Callable | str
    surrogate: nn.Module | Surrogate

    def __post_init__(self) -> None:
        object.__setattr__(self, "attack", resolve(self.attack))
        if isinstance(self.surrogate, nn.Module):
            object.__setattr__(self, "surrogate", Surrogate(self.surrogate))
        if not isinstance(self.surrogate, Surrogate):
            raise NetprobeError(f"Transfer.surrogate must be a model (torch.nn.Module), not {self.surrogate!r}")

    @property
    def eps(self) -> float:
        """The strength of the attack."""
        return eps_of(self.attack)

    @property
    def norm(self) -> str | None:
        """The norm of the attack's ball, if it has one."""
        return getattr(self.attack, "norm", None)

    @property
    def family(self) -> str:
        """The attack's, and that it is transferred."""
        return f"transferred {family(self.attack)}"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        device = device_of(self.surrogate.model)
        return apply(self.attack, self.surrogate.model, x.to(device), y.to(device), generator=generator).to(x.device)

    def fool(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None,
        slots: int | None = None,
        gradients: torch.dtype | None = None,
        advance_bar: Progress = lambda images: None,
    ) -> Attacked:
        """Show what was crafted to `model`, `slots` images at a time."""
        slots, found = slots or len(x), x.detach().clone()
        fooled, forwards = self._asked(model, found, y, slots), torch.ones_like(y, dtype=torch.int64)
        standing = (~fooled).nonzero().squeeze(1)
        advance_bar(len(x) - len(standing))
        for rows in standing.split(slots) if len(standing) else ():
            with Count(self.surrogate.model) as count:
                found[rows] = self(model, found[rows], y[rows], generator=select(generator, rows))
            forwards[rows] += -(-count.images // len(rows)) + 1
            fooled[rows] = self._asked(model, found[rows], y[rows], slots)
            advance_bar(len(rows))
        return Attacked(found, fooled, forwards, torch.full_like(forwards, -1))

    def _asked(self, model: nn.Module, x: Tensor, y: Tensor, slots: int) -> Tensor:
        with frozen(model):
            logits = predict_all(model, x, slots)
        goal = Goal(y)
        goal.check(logits)
        return goal.reached(logits)


def transfers(attacks: Mapping[str, Callable], sources: Mapping[str, nn.Module]) -> dict[str, Transfer]:
    """Every gradient attack among `attacks`, made against every one of `sources`, by name: "pgd from twin".

    Against a source that declares several backward passes (`perturb.backward`), once for each that the attack does not
    choose itself: "pgd from twin by front-end". Of a sweep: "pgd from twin@8/255". An error if there is no gradient
    attack: others have nothing to take from a source.
    """
    found = {}
    if sources and not any(isinstance(attack, GradientAttack) for attack in attacks.values()):
        raise NetprobeError(
            f"nothing can be transferred from {', '.join(sources)}: none of {', '.join(attacks)} is a gradient attack; "
            "add one, such as pgd:eps=8/255"
        )
    for (name, attack), (source, model) in itertools.product(attacks.items(), sources.items()):
        if not isinstance(attack, GradientAttack):
            continue
        passes = () if attack.backward else declared_passes(model)
        for way in passes or (None,):
            suffix = f" by {way}" if len(passes) > 1 else ""
            chosen = attack if way is None else dataclasses.replace(attack, backward=way)
            base, at, strength = name.partition("@")
            found[f"{base} from {source}{suffix}{at}{strength}"] = Transfer(chosen, model)
    return found

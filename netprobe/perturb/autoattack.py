"""AutoAttack: several attacks one after the other, each on the images that the earlier ones left standing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.fields import choice
from netprobe.perturb.apgd import APGD, TargetedAPGD
from netprobe.perturb.attacked import Attacked
from netprobe.perturb.ball import InBall
from netprobe.perturb.fab import FAB, TargetedFAB
from netprobe.perturb.libraries import needed
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import select
from netprobe.perturb.square import Square
from netprobe.perturb.standing import Progress, StandingAttack, in_turn

Attack = APGD | TargetedAPGD | FAB | TargetedFAB | Square
VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
    "apgd": ("apgd-ce", "apgd-t"),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class AutoAttack(InBall, StandingAttack):
    """The attacks of one of AutoAttack's versions in turn, each on what still stands; nothing to set but eps.

    standard  APGD on the cross-entropy, targeted APGD (9 classes), targeted FAB (9 classes), Square (5000 queries)
    plus      APGD on the cross-entropy and on the DLR loss (5 restarts each), FAB (5 restarts), Square, targeted APGD
              and FAB
    rand      for randomised models: both APGDs, gradients averaged over 20 passes
    apgd      the first two of standard: the list that arXiv 2202.13074 evaluates with
    In L1, standard gives APGD 5 restarts and targeted APGD 5 classes. Settings: Croce and Hein's published code. APGD
    and Square are ours, FAB is pyautoattack's. In L1 our APGD does not begin in larger balls as theirs does: of
    100 images of cifar10-jpeg a PGD-trained ResNet-32 has 35 left at eps 6, by theirs 33, and 35 without those.

    `fool` says in `broken_by` which of `parts` fooled the model first, by number; -1 where none did or none had to.

    Needs four classes (the targeted loss), and for FAB the library pyautoattack. Cost on an image that stands:
    standard 100 + 900 + 900 gradients and 900 + 5000 more forward passes, in Linf and L2.
    """

    name: ClassVar[str] = "autoattack"
    title: ClassVar[str] = "AutoAttack"

    version: str = field(default="standard", metadata=choice(VERSIONS, help="which attacks"))

    @property
    def family(self) -> str:
        version = "" if self.version == "standard" else f" {self.version}"
        return self.with_norm(f"{self.title}{version}")

    @property
    def parts(self) -> dict[str, Attack]:
        """The attacks by name, in their order."""
        ball = {"eps": self.eps, "norm": self.norm, "low": self.low, "high": self.high}
        plus, wide = self.version == "plus", self.norm == "l1" and self.version == "standard"
        apgd = {"restarts": 5 if plus or wide else 1, "eot": 20 if self.version == "rand" else 1}
        attacks = {
            "apgd-ce": APGD(**ball, **apgd),
            "apgd-dlr": APGD(**ball, **apgd, loss="dlr"),
            "apgd-t": TargetedAPGD(**ball, targets=5 if wide else 9),
            "fab": FAB(**ball, restarts=5),
            "fab-t": TargetedFAB(**ball),
            "square": Square(**ball),
        }
        return {name: attacks[name] for name in VERSIONS[self.version]}

    def assail(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None,
        slots: int,
        gradients: torch.dtype | None,
        advance_bar: Progress,
    ) -> Attacked:
        self._check(predict(model, x[:1]).shape[1])

        def assailed(attack: Attack, left: Tensor) -> Attacked:
            streams = select(generator, left)
            return attack.fool(model, x[left], y[left], generator=streams, slots=slots, gradients=gradients)

        return in_turn([partial(assailed, attack) for attack in self.parts.values()], x, advance_bar)

    def _check(self, classes: int) -> None:
        """Refuse, before any work, what a later part would stumble over."""
        if any(isinstance(part, FAB | TargetedFAB) for part in self.parts.values()):
            needed("pyautoattack.fab_pt", self.title)
        least = 3 if self.version == "rand" else 4
        if classes < least:
            raise NetprobeError(
                f"autoattack (version {self.version}) needs {least} classes, but the model has {classes}: "
                "use apgd, square and fab one by one"
            )

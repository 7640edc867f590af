"""Training with HaH blocks: cross-entropy, and in every block a few strong responses among many weak ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from netprobe.data import Data
from netprobe.defenses.base import Defense
from netprobe.defenses.hah.blocks import hebbian_responses
from netprobe.defenses.hah.converting import NORMS, STANDARDS, convert
from netprobe.defenses.hah.convolution import REACHES
from netprobe.defenses.hah.firing import firing
from netprobe.defenses.hah.threshold import RULES
from netprobe.errors import NetprobeError
from netprobe.fields import added, choice, real, reals, whole
from netprobe.outputs import logits_of
from netprobe.recipes import Recipe, in_color

ALPHAS = (4.5e-3, 2.5e-3, 1.3e-3, 1e-3, 8e-4, 5e-4)
VARIANTS = {"paper_repro": {"demotion": 1.0, "pool": 3}, "text": {"demotion": 0.1, "pool": 1}}
"""What the public code computes in effect (its lambda of 0.1 is passed under a name that nothing reads), and what the
paper says."""
GAP = (
    "top-K gap of block {}",
    "1",
    "mean over images and places of the mean of the K strongest channels and of the others",
)
MOST_NAMED = 16


@dataclass(frozen=True, kw_only=True, repr=False)
class HaHDefense(Defense):
    """L = CE(f(x), y) - sum_b alpha_b L_b, f a network whose first `blocks` blocks are Hebbian / anti-Hebbian.

        L_b = mean over images and places of 1/K sum_{k <= K} y^(k) - lambda 1/(C - K) sum_{k > K} y^(k)

    y^(1) >= y^(2) >= ... the channels of a place of block b in order, after convolution by unit filters and ReLU,
    before normalisation and threshold; K = ceil(top C). L_b trains the filters of its own block alone: else a few
    channels that always fire would satisfy it (`reach=all`, and `firing` to see it). `convert` makes the blocks. Images
    as they are: no noise, no attack.

    Without `alphas`, blocks 1 to 6 have the paper's, 0.0045:0.0025:0.0013:0.001:0.0008:0.0005, and those behind the
    last of these. blocks=0 is the paper's baseline. Ablations of the paper's table 3: scale=0, norm=batch, rule=none.
    At sides of 4 pixels and less the threshold keeps 4 places or fewer: more blocks are seldom better.

    History: clean_loss, the cross-entropy; hebbian, sum_b alpha_b L_b; gap_b, the mean of the K strongest less that of
    the others, which should grow. Cekic, Bakiskan and Madhow, arXiv 2202.13074.
    """

    name: ClassVar[str] = "hah"
    title: ClassVar[str] = "HaH blocks"
    recorded: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "clean_loss": ("cross-entropy", "nat", "mean over the epoch, without the HaH loss"),
        "hebbian": ("HaH objective", "1", "sum of alpha_b L_b over the blocks, which is maximised"),
    } | {f"gap_{n}": (f"top-K gap of block {n}", "1", GAP) for n in range(1, MOST_NAMED + 1)}

    blocks: int = field(default=6, metadata=whole(0, help="how many blocks, from the first, are HaH blocks"))
    variant: str = field(
        default="paper_repro", metadata=choice(VARIANTS, help="lambda and pool, where they are not given")
    )
    demotion: float | None = field(
        default=None, metadata=real(0, optional=True, help="lambda of the loss; none: 1, variant text 0.1")
    )
    alphas: tuple[float, ...] | None = field(
        default=None, metadata=reals(0, help="weight of each block's loss, like 0.0045:0.0025; none: the paper's")
    )
    scale: float = field(default=1.0, metadata=real(0, help="factor of all alphas; 0: no HaH loss"))
    top: float = field(
        default=0.1, metadata=real(0, 1, inside=True, help="share of the channels of a place that the loss raises")
    )
    norm: str = field(default="divisive", metadata=choice(NORMS, help="what follows ReLU in a HaH block"))
    pool: int | None = field(
        default=None, metadata=whole(1, optional=True, help="divisive: side of a place's surround; none: 3, text 1")
    )
    sigma: float = field(default=0.1, metadata=real(0, 1, help="divisive: weight of the image's largest mean"))
    rule: str = field(default="keep", metadata=choice(RULES, help="threshold of a channel"))
    keep: float = field(default=0.2, metadata=real(0, 1, help="keep: largest share of the places of a channel"))
    standard: str = field(default="normalised", metadata=choice(STANDARDS, help="form of all other blocks"))
    reach: str = field(
        default="own",
        metadata=added(choice(REACHES, help="what the loss of a block trains: its filters, or all layers up to it")),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alphas is not None and len(self.alphas) != self.blocks:
            raise NetprobeError(
                f"{len(self.alphas)} alphas for {self.blocks} blocks: give one for each, or none for the paper's"
            )
        if self.keep == 0:
            raise NetprobeError("keep=0 leaves nothing of an image: choose a share above 0, such as 0.2")
        if self.surround % 2 == 0:
            raise NetprobeError(f"pool={self.surround} has no middle: choose an odd side, 1 (the text) or 3 (the code)")

    @property
    def weights(self) -> tuple[float, ...]:
        """alpha_b of every block, with the scale."""
        last = ALPHAS[-1:] * max(self.blocks - len(ALPHAS), 0)
        return tuple(self.scale * alpha for alpha in self.alphas or (ALPHAS + last)[: self.blocks])

    @property
    def penalty(self) -> float:
        """lambda."""
        return VARIANTS[self.variant]["demotion"] if self.demotion is None else self.demotion

    @property
    def surround(self) -> int:
        """Side of the surround of a place in divisive normalisation."""
        return VARIANTS[self.variant]["pool"] if self.pool is None else self.pool

    @property
    def draws(self) -> bool:
        return False

    def build(self, model: nn.Module) -> nn.Module:
        settings = {name: getattr(self, name) for name in ("standard", "norm", "sigma", "rule", "keep", "top")}
        return convert(model, self.blocks, pool=self.surround, **settings)

    def published(self, architecture: str, shape: tuple[int, ...]) -> Recipe | None:
        """Of colour images: Adam with 1e-3, a tenth of it from epochs 60 and 80 on, 100 epochs of batches of 128."""
        if not in_color(shape):
            return None
        adam = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "step", "milestones": (60, 80)}
        return Recipe(epochs=100, batch_size=128, augment="crop-flip", **adam)

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        with hebbian_responses(model, self.reach) as responses:
            logits = logits_of(model(x), len(x))
        clean = cross_entropy(logits, y)
        losses = [response.top - self.penalty * response.rest for response in responses]
        hebbian = sum((alpha * loss for alpha, loss in zip(self.weights, losses, strict=True)), clean.new_zeros(()))
        gaps = {f"gap_{n}": (response.top - response.rest).detach() for n, response in enumerate(responses, 1)}
        return {"loss": clean - hebbian, "logits": logits, "clean_loss": clean, "hebbian": hebbian, **gaps}

    def views(self, stages: Mapping[str, nn.Module], data: Data) -> dict[str, xr.Dataset]:
        """How often every channel of the HaH blocks is among the strongest."""
        return {"firing": firing(stages["trained"], data, top=self.top, progress=False)} if self.blocks else {}

"""The local rule of Krotov and Hopfield: one step, of a batch at once or sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from netprobe.errors import NetprobeError
from netprobe.fields import Checked, choice, real, whole

RULES = ("batched", "sequential")
LEAST = 1e-9
"""A largest change below this is not brought to the size of the learning rate."""
VANISHED = 1e-30
"""Weights of inputs that are always zero fall without end; below this they are zero, or a CPU would multiply subnormal
numbers, at a tenth of its speed."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LocalRule(Checked):
    """How units compete for samples, and what those that are trained move towards.

    With W^ = sign(W) |W|^(p - 1), h = v W^T, and Q_mu = h_mu / ||W_mu||_p^(p - 1), for unit mu and sample v:

        dW_mu = g_mu (R^p v - h_mu W_mu)     d||W_mu||_p^p = p g_mu h_mu (R^p - ||W_mu||_p^p)

    so that units whose g h is positive on the whole end with a p-norm of R. They come from above: the k-th unit, which
    grows there, shrinks below R, and where long steps have carried norms there, they fall together (photographs, 2000
    units, batches of 100: at a rate of 0.1 to 0.4 R; at 0.03, 72 % of the units came to R).

        batched      g = 1 for the largest h, -Delta for the k-th largest; dW is summed over the batch
        sequential   one sample after the other: g = 1 for the largest Q, -Delta for ranks 2 to k

    and W <- W + lr dW / max(max |dW|, 1e-9): the largest change of a step is the learning rate; the sources say so of
    batches alone, and without it the exact rule overflows.

    The exact rule, sequential, is a reference for single steps, ten times as slow. A unit that is pushed away with
    h > 0 loses norm below R and gains it above: ranked by h, large units win and come back, ranked by Q they need not.
    On digits, started at N(0, 1), some norms grew to hundreds; started at R or below, one unit won everything. `learn`
    refuses both.

    Krotov and Hopfield, PNAS 116(16), 2019; Holzhausen et al., arXiv 2405.00679.
    """

    p: float = field(default=3.0, metadata=real(1, inside=True, help="of the norm that weights come to"))
    k: int = field(default=2, metadata=whole(2, help="rank of the unit that is pushed away, from 1"))
    delta: float = field(default=0.4, metadata=real(0, help="Delta, how much it is pushed away"))
    radius: float = field(default=1.0, metadata=real(0, inside=True, help="R, the p-norm that weights come to"))
    rule: str = field(default="batched", metadata=choice(RULES, help="a batch at once, or sample by sample"))

    def check_units(self, units: int) -> None:
        """Refuse a layer of too few units."""
        if self.k > units:
            raise NetprobeError(f"k={self.k} ranks {units} unit(s): choose k from 2 to the number of units")

    def norms(self, weight: Tensor) -> Tensor:
        """||W_mu||_p of every unit: (H, D) -> (H,)."""
        return torch.linalg.vector_norm(weight, self.p, dim=1)


class Learner:
    """The weights (H, D) while they are learnt, changed in place; beside them W^, brought up to date where they move.

    On a CPU a step costs one matrix product of the batch with all weights; what else there is concerns the few units
    that move. On a GPU it is two products and some passes over the weights, without the host waiting for any of it.
    """

    def __init__(self, weight: Tensor, rule: LocalRule) -> None:
        rule.check_units(len(weight))
        self.weight, self.rule = weight, rule
        self.powered = signed_power(weight, rule.p)
        self.norms = rule.norms(weight) if rule.rule == "sequential" else None

    def step(self, v: Tensor, lr: float) -> None:
        """Learn from samples v (B, D); lr = 0 leaves every bit."""
        if lr == 0:
            return
        if self.rule.rule == "sequential":
            for sample in v:
                self._exact(sample, lr)
        elif v.device.type == "cpu":
            self._few(v, lr)
        else:
            self._all(v, lr)

    def _few(self, v: Tensor, lr: float) -> None:
        units, moved = changes(self.weight, self.powered, v, self.rule)
        self._put(units, self.weight[units].addcmul_(moved, _size(moved, lr)))

    def _all(self, v: Tensor, lr: float) -> None:
        moved = change(self.weight, v, self.rule, self.powered)
        self.weight.addcmul_(moved, _size(moved, lr))
        self.powered = signed_power(self.weight, self.rule.p)

    def _exact(self, v: Tensor, lr: float) -> None:
        rule, h = self.rule, self.powered @ v
        units = (h / self.norms.clamp_min(torch.finfo(h.dtype).tiny) ** (rule.p - 1)).topk(rule.k).indices
        g = torch.full_like(h[units], -rule.delta)
        g[0] = 1
        before = self.weight[units]
        moved = g[:, None] * (rule.radius**rule.p * v - h[units, None] * before)
        self._put(units, before.addcmul(moved, _size(moved, lr)))
        self.norms[units] = rule.norms(self.weight[units])

    def _put(self, units: Tensor, weight: Tensor) -> None:
        self.weight[units] = hardshrink(weight, VANISHED)
        self.powered[units] = signed_power(weight, self.rule.p)


def change(weight: Tensor, v: Tensor, rule: LocalRule, powered: Tensor | None = None) -> Tensor:
    """dW of the batched rule for all units, weights and result (H, D), samples v (B, D).

    Two matrix products; on a GPU the same bits every time. `powered` is W^, if it is known.
    """
    h = v @ (signed_power(weight, rule.p) if powered is None else powered).T
    g = drive(h, rule.k, rule.delta)
    return torch.addmm(weight * -(g * h).sum(0)[:, None], g.T, v, alpha=rule.radius**rule.p)


def changes(weight: Tensor, powered: Tensor, v: Tensor, rule: LocalRule) -> tuple[Tensor, Tensor]:
    """The units (U,) that are the first or the k-th of any sample, and their dW (U, D); that of all others is 0."""
    top = (v @ powered.T).topk(rule.k, dim=1)
    units, place = torch.cat([top.indices[:, 0], top.indices[:, -1]]).unique(return_inverse=True)
    first, last = place.split(len(v))
    pull = v.new_zeros(len(units), v.shape[1]).index_add_(0, first, v).index_add_(0, last, v, alpha=-rule.delta)
    decay = v.new_zeros(len(units)).index_add_(0, first, top.values[:, 0])
    decay.index_add_(0, last, top.values[:, -1], alpha=-rule.delta)
    return units, pull.mul_(rule.radius**rule.p).addcmul_(decay[:, None], weight[units], value=-1)


def drive(h: Tensor, k: int, delta: float) -> Tensor:
    """g (B, H): in every row 1 for the largest h, -delta for the k-th largest, 0 for all others."""
    ranked = h.topk(k, dim=1).indices
    return torch.zeros_like(h).scatter_(1, ranked[:, :1], 1.0).scatter_(1, ranked[:, -1:], -delta)


def signed_power(weight: Tensor, p: float) -> Tensor:
    """W^ = sign(W) |W|^(p - 1), elementwise, for p > 1; 0 where that is below 1e-30."""
    size = weight.abs()
    raised = weight * size if p == 3 else weight.sign() * size.pow(p - 1)
    return hardshrink(raised, VANISHED)


def _size(moved: Tensor, lr: float) -> Tensor:
    """What brings the largest change to `lr`."""
    return lr / moved.abs().max().clamp_min(LEAST)

"""Square Attack: random search with square patches, which asks for scores only (Andriushchenko et al., ECCV 2020)."""

from __future__ import annotations

import bisect
import functools
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netprobe.fields import real, whole
from netprobe.perturb.attack_copy import attack_copy
from netprobe.perturb.attacked import Attacked
from netprobe.perturb.ball import InBall
from netprobe.perturb.geometry import GEOMETRIES, per_image, unit
from netprobe.perturb.objective import lead, predict
from netprobe.perturb.randomness import select, uniform
from netprobe.perturb.standing import Progress, StandingAttack
from netprobe.perturb.windows import Windows, planes, sides

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share of the image that a patch covers is halved."""

TILES = 5
"""The L2 and L1 searches start from this many patches along each side."""

AHEAD = 64
"""Queries whose random numbers are drawn at once."""

PLACE = 5
"""Random numbers for where: two places and an orientation. One more a channel says with which sign."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Square(InBall, StandingAttack):
    """Change a random square patch; keep the change if the margin z_y - max_{j != y} z_j falls.

    Linf. The perturbation starts as stripes of +-eps; a patch is set to eps times a random sign per channel.
    L2, L1. It starts as 5 x 5 pairs of bumps; a patch gets a random pair of bumps on top of what it has, and takes the
    budget of another patch, which is emptied; what comes out is brought to norm eps.
    The patch covers the share `patch` of the image, halved after 10, 50, 200, 500, 1000, 2000, ... queries. An image
    leaves when the model is fooled.

    Needs no gradients, so that masked ones do not mislead it. Source: Andriushchenko et al., ECCV 2020, algorithms 2
    and 3, with the settings of AutoAttack (Croce and Hein, ICML 2020). Ours differs: every image has patches of its
    own, drawn from its own stream, which may touch the lower and the right edge; in L1 the perturbation is stretched
    until what the box leaves of it has norm eps. Inputs (N, L) and (N, C, L) are images of height 1, the frames of
    (N, C, T, H, W) are channels.

    Cost: at most `queries` forward passes an image, of an `attack_copy`, and one of the model for every candidate
    that fools the copy. `forwards` counts both.
    """

    name: ClassVar[str] = "square"
    title: ClassVar[str] = "Square"

    queries: int = field(default=5000, metadata=whole(1, help="scores asked for per image, that of the start included"))
    patch: float = field(default=0.8, metadata=real(0, 1, help="share of the image that the first patches cover"))

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
        search = _Search(self, model, x, y, generator, slots)
        for query in range(self.queries):
            if not len(search.rows):
                break
            advance_bar(search.ask(query))
        advance_bar(len(search.rows))
        return search.outcome()

    def share(self, query: int) -> float:
        """Share of the image that the patch of this query (1 is the first after the start) covers."""
        return self.patch / 2 ** bisect.bisect_left(HALVINGS, query - 1)

    def start(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """The first candidates around x, planes (N, C, H, W)."""
        if self.norm == "linf":
            stripes = _signs(uniform(x[:, :, :1], generator))
            return self.box.clip(x + self.eps * stripes)
        return self.filled(x, _tiled_bumps(x, generator, self.norm))

    def changed(self, x: Tensor, best: Tensor, query: int, drawn: Tensor) -> Tensor:
        """The candidates of this query, from the best so far and (N, PLACE + C) numbers in [0, 1)."""
        plane, signs = x.shape[2:], _signs(drawn[:, PLACE:, None, None])
        if self.norm == "linf":
            there = Windows.at(drawn[:, 0], drawn[:, 1], sides(self.share(query), *plane), plane)
            return self.box.clip(x + torch.where(there.mask(), self.eps * signs, best - x))
        size = sides(self.share(query), *plane, least=3, odd=True)
        there, elsewhere = (Windows.at(drawn[:, i], drawn[:, i + 1], size, plane) for i in (0, 2))
        upright = per_image(drawn[:, 4] < 0.5, x)
        bumps = torch.where(upright, *(_pair(size, self.norm, axis).to(x) for axis in (0, 1)))
        return self.filled(x, self._moved(best - x, there, elsewhere, signs * bumps))

    def _moved(self, delta: Tensor, there: Windows, elsewhere: Windows, bumps: Tensor) -> Tensor:
        """`delta` with its mass of both windows, and what it has left of eps, put into the first on top of `bumps`."""
        power = 2 if self.norm == "l2" else 1

        def mass(part: Tensor) -> Tensor:
            return part.abs().pow(power).sum((2, 3), keepdim=True)

        inside = there.read(delta)
        spare = (self.eps**power - mass(delta).sum(1, keepdim=True)).clamp_min(0) / delta.shape[1]
        budget = spare + mass(delta * (there.mask() | elsewhere.mask()))
        shape = bumps + inside / mass(inside).pow(1 / power).clamp_min(1e-12)
        shape = shape / mass(shape).pow(1 / power).clamp_min(1e-12)
        emptied = delta.masked_fill(elsewhere.mask(), 0)
        return there.written(emptied, shape * budget.pow(1 / power) * (delta.shape[1] if power == 1 else 1))

    def filled(self, x: Tensor, delta: Tensor) -> Tensor:
        """x + delta brought to norm eps and clipped; in L1 to the nearest point of both ball and box."""
        if self.norm == "l2":
            return self.box.clip(x + self.eps * unit(delta, self.geometry))
        high = delta.flatten(1).abs().amax(1)
        low = torch.zeros_like(high)
        for _ in range(24):
            middle = (low + high) / 2
            inside = (self._shrunk(x, delta, middle) - x).abs().sum((1, 2, 3), dtype=torch.float64) <= self.eps
            low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
        return self._shrunk(x, delta, high)

    def _shrunk(self, x: Tensor, delta: Tensor, by: Tensor) -> Tensor:
        return self.box.clip(x + delta.sign() * (delta.abs() - per_image(by, x)).clamp_min(0))


class _Search:
    """Where every image stands; those that have fallen are gone."""

    def __init__(
        self, attack: Square, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None, slots: int
    ) -> None:
        self.attack, self.model, self.generator, self.slots = attack, model, generator, slots
        self.surrogate = attack_copy(model, x[:8])
        self.found, self.shape = x.clone(), x.shape[1:]
        self.fooled = torch.zeros_like(y, dtype=torch.bool)
        self.forwards = torch.zeros_like(y)
        self.rows, self.x, self.y = torch.arange(len(x), device=x.device), planes(x), y
        self.best, self.value, self.drawn = self.x, torch.full_like(self.x[:, 0, 0, 0], torch.inf), self.x[:, :0]

    def ask(self, query: int) -> int:
        """One query about every image; how many have fallen."""
        candidate = self._candidate(query)
        value = torch.cat([self._lead(rows, candidate[rows]) for rows in self._parts()])
        better = value < self.value
        self.best = torch.where(per_image(better, self.x), candidate, self.best)
        self.value = torch.where(better, value, self.value)
        self.forwards[self.rows] += 1
        return self._leave(self._fallen(better & (value <= 0)))

    def outcome(self) -> Attacked:
        self.found[self.rows] = self._shaped(self.best)
        return Attacked(self.found, self.fooled, self.forwards, torch.zeros_like(self.forwards))

    def _candidate(self, query: int) -> Tensor:
        if query == 0:
            return self.attack.start(self.x, select(self.generator, self.rows))
        ahead = (query - 1) % AHEAD
        if ahead == 0:
            numbers = self.x.new_empty(len(self.rows), AHEAD, PLACE + self.x.shape[1])
            self.drawn = uniform(numbers, select(self.generator, self.rows))
        return self.attack.changed(self.x, self.best, query, self.drawn[:, ahead])

    @torch.no_grad()
    def _lead(self, rows: Tensor, candidate: Tensor) -> Tensor:
        return lead(predict(self.surrogate, self._shaped(candidate)), self.y[rows])

    def _fallen(self, candidates: Tensor) -> Tensor:
        """Which of the `candidates` the model itself is fooled by, at their best."""
        fallen, asked = candidates.clone(), candidates.nonzero().squeeze(1)
        for rows in asked.split(self.slots) if len(asked) else ():
            fallen[rows] = predict(self.model, self._shaped(self.best[rows])).argmax(1) != self.y[rows]
            self.forwards[self.rows[rows]] += 1
        return fallen

    def _leave(self, fallen: Tensor) -> int:
        if not fallen.any():
            return 0
        self.found[self.rows[fallen]], self.fooled[self.rows[fallen]] = self._shaped(self.best[fallen]), True
        for name in ("rows", "x", "y", "best", "value", "drawn"):
            setattr(self, name, getattr(self, name)[~fallen])
        return int(fallen.sum())

    def _parts(self) -> tuple[Tensor, ...]:
        return torch.arange(len(self.rows), device=self.rows.device).split(self.slots)

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape)


def _signs(u: Tensor) -> Tensor:
    """-1 or 1, equally likely for u ~ U[0, 1)."""
    return torch.where(u < 0.5, -1.0, 1.0).to(u)


@functools.lru_cache(maxsize=64)
def _pair(size: tuple[int, int], norm: str, axis: int) -> Tensor:
    """Two bumps of opposite sign, one in each half along `axis`, of norm 1 together: (1, 1, *size).

    Along the other axis where this one is too short to be halved, and a single bump where both are.
    """
    if max(size) == 1:
        return torch.ones(1, 1, *size)
    if size[axis] == 1:
        axis = 1 - axis
    first = size[axis] // 2
    halves = [(first, size[1 - axis]), (size[axis] - first, size[1 - axis])]
    one, other = (_bump(half, norm) for half in halves)
    pair = torch.cat([one, -other])
    pair = pair if axis == 0 else pair.T
    return unit(pair[None], GEOMETRIES[norm])[None]


def _bump(size: tuple[int, int], norm: str) -> Tensor:
    """A pyramid of norm 1: sum_{k >= r} (k + 1)^-2 at distance r (in the larger coordinate) from the centre; -4 in L1.

    Equation 2 of the paper.
    """
    (a, b), decay = size, {"l2": 2, "l1": 4}[norm]
    steps = 1 / torch.arange(1, max(a, b) // 2 + 2, dtype=torch.float32) ** decay
    height = steps.flip(0).cumsum(0).flip(0)
    down, across = (torch.arange(a) - a // 2).abs(), (torch.arange(b) - b // 2).abs()
    return unit(height[torch.maximum(down[:, None], across)][None], GEOMETRIES[norm])[0]


def _tiled_bumps(x: Tensor, generator: torch.Generator | None, norm: str) -> Tensor:
    """Pairs of bumps side by side, with random signs and orientations, shaped like `x` (N, C, H, W)."""
    size = tuple(max(n // TILES, 1) for n in x.shape[2:])
    grid = tuple(n // part for n, part in zip(x.shape[2:], size, strict=True))
    u = uniform(x.new_empty(len(x), 1 + x.shape[1], *grid, 1, 1), generator)
    one, other = (_pair(size, norm, axis).to(x)[:, :, None, None] for axis in (0, 1))
    tiles = _signs(u[:, 1:]) * torch.where(u[:, :1] < 0.5, one, other)
    joined = tiles.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    missing = [whole - part for whole, part in zip(x.shape[2:], joined.shape[2:], strict=True)]
    before = [n // 2 for n in missing]
    return F.pad(joined, (before[1], missing[1] - before[1], before[0], missing[0] - before[0]))

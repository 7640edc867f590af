"""Attack many images on a fixed number of slots: an image that has fallen leaves, and the next one enters."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from netprobe.perturb import cycles
from netprobe.perturb.attack_copy import memory_format
from netprobe.perturb.attacked import Attacked
from netprobe.perturb.objective import Goal, predict
from netprobe.perturb.randomness import select
from netprobe.perturb.slots import Slots

if TYPE_CHECKING:
    from netprobe.perturb.gradient import GradientAttack

logger = logging.getLogger(__name__)


class Conveyor:
    """Every image's way through an attack's attempts (restarts, targets), `slots` images at a time.

    An image leaves when the model is fooled, at whatever step, or when its attempts are used up; images that the model
    gets wrong anyhow leave at once, unchanged. So the result is the worst case over all steps, and never weaker (up to
    rounding) than the last step alone. Gradients come from `surrogate`; every verdict is `model`'s own.

    The model is asked wherever the surrogate is fooled, and at the end of every attempt. With `spread`, or a backward
    pass that changes the surrogate's logits, that is not at every step.

    Images do not notice one another: the result depends neither on `slots` nor on the order, up to the rounding of the
    model itself. Cost: about (share that stands + what falls early) x attempts x steps forward and backward passes.
    """

    def __init__(
        self,
        attack: GradientAttack,
        model: nn.Module,
        surrogate: nn.Module,
        slots: int,
        generator: torch.Generator | None,
        advance_bar: Callable[[int], object] = lambda images: None,
    ) -> None:
        self.attack, self.model, self.surrogate = attack, model, surrogate
        self.capacity, self.generator, self.advance_bar = slots, generator, advance_bar
        self.layout = memory_format(surrogate)
        self.watches = attack.repeats_itself and attack.steps > cycles.LONG

    def run(self, x: Tensor, goal: Goal, tried: Tensor | None = None) -> Attacked:
        """Attack all of `x` (N, ...), or those that are `tried` (N,)."""
        self.x, self.goal, self.found = x, goal, x.clone()
        self.forwards, self.backwards = (torch.zeros(len(x), dtype=torch.int64, device=x.device) for _ in range(2))
        self.fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._leave_at_once()
        waiting = ~self.fooled if tried is None else tried & ~self.fooled
        self.queue = deque((image, 0) for image in waiting.nonzero().squeeze(1).tolist() if self.attack.eps)
        self.advance_bar(len(x) - len(self.queue))
        slots = self._admit(None)
        while len(slots):
            slots = self._admit(self._step(slots))
        return Attacked(self.found, self.fooled, self.forwards, self.backwards)

    def _leave_at_once(self) -> None:
        """The images that need no attack."""
        for rows in torch.arange(len(self.x), device=self.x.device).split(self.capacity):
            self.fooled[rows] = self._verdict(rows, self.x[rows], self.goal.select(rows))

    def _verdict(self, images: Tensor, x: Tensor, goal: Goal) -> Tensor:
        """What the model itself says."""
        self.forwards[images] += self.attack.eot
        return goal.reached(predict(self.model, x.contiguous(memory_format=self.layout), self.attack.eot))

    def _admit(self, slots: Slots | None) -> Slots:
        """Fill the free slots from the queue."""
        free = self.capacity - (0 if slots is None else len(slots))
        waiting = [self.queue.popleft() for _ in range(min(free, len(self.queue)))]
        if slots is not None and not waiting:
            return slots
        new = self._begin(waiting)
        return new if slots is None or not len(slots) else slots.joined(new)

    def _begin(self, waiting: list[tuple[int, int]]) -> Slots:
        image, attempt = torch.tensor(waiting, dtype=torch.int64, device=self.x.device).view(-1, 2).T
        goal = self.attack.aim(self.goal.select(image), attempt)
        slots = Slots.fresh(image, attempt, self.x[image], goal)
        if len(slots):
            self.attack.begin(slots, select(self.generator, image))
        if self.watches:
            history = torch.zeros(len(slots), self.attack.steps, dtype=torch.int64, device=self.x.device)
            slots.memory["history"] = history
        return slots

    def _step(self, slots: Slots) -> Slots:
        """One step of every slot; those that remain."""
        streams = select(self.generator, slots.image) if self.attack.spread else None
        here = self.attack.look(self.surrogate, slots, streams)
        self.forwards[slots.image] += self.attack.eot
        self.backwards[slots.image] += self.attack.eot
        stays = ~self._fallen(slots, slots.goal.reached(here.logits))
        if not stays.all():
            slots, here = slots.select(stays), here.select(stays)
        self.attack.advance(slots, here)
        return self._without_exhausted(slots) if len(slots) else slots

    def _fallen(self, slots: Slots, candidates: Tensor) -> Tensor:
        """Which of the `candidates` the model itself is fooled by: their places are kept, and they are done."""
        fallen = torch.zeros_like(candidates)
        rows = candidates.nonzero().squeeze(1)
        if len(rows):
            asked = slots.select(rows)
            fallen[rows] = self._verdict(asked.image, asked.x, asked.goal)
            self._leave(slots.image[fallen], slots.x[fallen], fooled=True)
        return fallen

    def _leave(self, images: Tensor, x: Tensor, fooled: bool) -> None:
        self.found[images] = x
        self.fooled[images] = fooled
        self.advance_bar(len(images))

    def _without_exhausted(self, slots: Slots) -> Slots:
        """Take out the searches that have made their last step, or begun to repeat themselves."""
        exhausted = slots.step >= self.attack.steps
        if self.watches:
            now = cycles.fingerprint(slots.x)
            exhausted |= cycles.closed(slots.memory["history"], slots.step.clamp(max=self.attack.steps) - 1, now)
        if not exhausted.any():
            return slots
        spent = slots.select(exhausted)
        spent = spent.select(~self._fallen(spent, torch.ones_like(spent.image, dtype=torch.bool)))
        again = spent.attempt + 1 < self.attack.attempts(self.goal)
        self.queue.extend(zip(spent.image[again].tolist(), (spent.attempt[again] + 1).tolist(), strict=True))
        self._leave(spent.image[~again], self.attack.offer(spent.select(~again)), fooled=False)
        return slots.select(~exhausted)

"""The training loop: one for every defense, resumable at any step."""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from netprobe.defenses import Defense
from netprobe.devices import seed_everywhere
from netprobe.guard import undivided
from netprobe.perturb import ImageGenerator
from netprobe.perturb.attack_copy import LiveCopy
from netprobe.processes import Processes
from netprobe.recipes import Recipe
from netprobe.training.augmentation import order
from netprobe.training.choosing import best_index, merits, out_of_patience
from netprobe.training.device_data import DeviceData
from netprobe.training.keeping import Keeper
from netprobe.training.objective import Objective, distributed
from netprobe.training.optimizer import make_optimizer, scaler, set_rates
from netprobe.training.regularising import Regularisation
from netprobe.training.schedules import rates
from netprobe.training.tally import Tally
from netprobe.training.validation import Validation

LOOK_EVERY = 0.5
"""Seconds between looks at the losses: each makes the host wait for the device."""
NOISE = 1
"""Tells the stream of a step's noise from the one of dropout and the like."""
EXAMPLES = 8
"""Images that show whether the attack copy is the same function as the model."""


@dataclass
class Progress:
    """Where training is. All else follows from the recipe, the data and the weights: no random state is carried on."""

    epoch: int = 0
    step: int = 0  # in this epoch
    seconds: float = 0.0  # of this epoch
    stopped: str | None = None


class Loop:
    """Train `model`, in place, from wherever `progress` is."""

    def __init__(
        self,
        defense: Defense,
        model: nn.Module,
        data: DeviceData,
        validation: Validation,
        recipe: Recipe,
        together: Processes,
        keeper: Keeper,
        regularisation: Regularisation | None = None,
    ) -> None:
        defense.check_range(*data.range())
        self.regularisation = Regularisation(()) if regularisation is None else regularisation
        self.defense, self.model, self.data, self.validation = defense, model, data, validation
        self.recipe, self.together, self.keeper = recipe, together, keeper
        self.progress, self.history, self.tally = Progress(), [], Tally()
        self.scaler, self.live = scaler(recipe, data.device), None
        self.averaged = _averaged(model, recipe.ema) if recipe.ema else None
        self._asked = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        self._optimised: list[str] | None = None
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """Have the defense make the network ready, and an optimiser for what is to be trained now."""
        recipe, together = self.recipe, self.together
        for network in (self.model, self.result):
            self.defense.begin_epoch(network, min(self.progress.epoch, recipe.epochs - 1), recipe.epochs)
        optimised = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        if optimised == self._optimised:
            return
        objective = Objective(self.defense, self.model, self.regularisation, together, recipe.compile)
        self._optimised, self.optimizer = optimised, make_optimizer(recipe, objective)
        self.objective = distributed(objective, together, self.data.device)

    @property
    def settled(self) -> int:
        """The first epoch, from 0, whose network may be the result."""
        return self.defense.stages(self.recipe.epochs)[-1]

    @property
    def result(self) -> nn.Module:
        """The network whose accuracy counts: the average of the weights, if there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def finished(self) -> nn.Module:
        """The network whose accuracy counts, in eval mode; what requires a gradient is as it was given."""
        for name, parameter in self.result.named_parameters():
            parameter.requires_grad_(self._asked[name])
        return self.result.eval()

    @functools.cached_property
    def steps_per_epoch(self) -> int:
        """The same in every epoch, whatever the order of the images."""
        return len(self._batches(0))

    def run(self, name: str, progress: bool) -> None:
        """Train until the last epoch, or until there is a reason to stop."""
        images = len(self.data) * self.recipe.epochs
        done = len(self.data) * self.progress.epoch + self.progress.step * self.recipe.batch_size
        hidden = not (progress and self.together.leads)
        if not done:
            self._keep_epoch()
        with tqdm(total=images, initial=done, desc=name, unit="image", unit_scale=True, disable=hidden) as bar:
            try:
                while self.progress.epoch < self.recipe.epochs and self.progress.stopped is None:
                    self._epoch(bar)
            except KeyboardInterrupt:
                self._keep_interrupted()
                raise

    def _epoch(self, bar: tqdm) -> None:
        if self.regularisation and not self.progress.step:
            self.regularisation.begin_epoch(
                self.model, self.data, self.progress.epoch, self.recipe.batch_size, self.together
            )
        batches, looked = self._batches(self.progress.epoch), time.monotonic()
        self.live = self._live_copy()
        self.model.train()
        for positions in batches[self.progress.step :]:
            with undivided():
                self._step(positions)
                self.progress.step += 1
            bar.update(len(positions))
            if time.monotonic() - looked > LOOK_EVERY:
                looked = self._look(bar, looked)
                if self.keeper.due:
                    self._save()
        self._look(bar, looked)
        with undivided():
            self._close_epoch()

    def _keep_interrupted(self) -> None:
        if self.together.local:
            self.tally.look(self._steps_done, self._remedy())
            self._save()

    def _step(self, batch: Tensor) -> None:
        epoch, recipe, positions = self.progress.epoch, self.recipe, self.together.share(batch)
        x, y = self.data.gather(positions, epoch)
        generator = self._noise(positions, epoch)
        seed_everywhere(_mixed(recipe.seed, self._steps_done, self.together.rank))
        with self._autocast(), contextlib.nullcontext() if self.optimizer else torch.no_grad():
            terms = self.objective(x, y, generator, [self.live.refresh() if self.live else self.model])
        self.tally.add(terms, y)
        if self.optimizer is not None:
            # Gradients are averaged over processes, whose parts of a last batch may differ in size.
            share = len(positions) * self.together.size / len(batch)
            self._update(terms["loss"] if share == 1 else terms["loss"] * share)
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def _noise(self, positions: Tensor, epoch: int) -> torch.Generator | None:
        """Fresh every epoch: a stream an image; on a GPU one a step, since streams of images are drawn on the host."""
        recipe, device = self.recipe, self.data.device
        if not (self.defense.draws or self.regularisation.draws):
            return None
        if device.type == "cpu":
            return ImageGenerator(recipe.seed, positions + epoch * len(self.data))
        return torch.Generator(device).manual_seed(_mixed(recipe.seed, self._steps_done, self.together.rank, NOISE))

    def _update(self, loss: Tensor) -> None:
        set_rates(self.optimizer, *self._rates(self._steps_done))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.recipe.clip:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _rates(self, step: int) -> tuple[float, float]:
        past = merits(self.history[self.settled :], self.validation.criterion)
        return rates(self.recipe, step, self.steps_per_epoch, past, self.settled)

    @property
    def _steps_done(self) -> int:
        return self.progress.epoch * self.steps_per_epoch + self.progress.step

    def _batches(self, epoch: int) -> list[Tensor]:
        """The positions of every batch, on the device; a last one too small for batch norm everywhere is left out."""
        positions = order(len(self.data), self.recipe.seed, epoch).to(self.data.device)
        parts = positions.split(self.recipe.batch_size)
        return [part for part in parts if len(part) >= 2 * self.together.size]

    def _live_copy(self) -> LiveCopy | None:
        """The copy that attacks take gradients from, made again if the model has become another function."""
        if not self.defense.needs_copy:
            return None
        if self.live is not None:
            return self.live.remade()
        examples, _ = self.data.batch(torch.arange(min(EXAMPLES, len(self.data))), 0)
        return LiveCopy(self.model, examples, self._gradients())

    def _gradients(self) -> torch.dtype | None:
        """The precision of attack gradients; float16 would lose small ones, so that they stay in float32 there."""
        return torch.bfloat16 if self.recipe.precision == "bfloat16" else None

    def _autocast(self) -> contextlib.AbstractContextManager:
        device, reduced = self.data.device.type, self.recipe.precision != "float32"
        if not reduced and not torch.is_autocast_enabled(device):
            return contextlib.nullcontext()
        return torch.autocast(device, getattr(torch, self.recipe.precision), enabled=reduced)

    def _look(self, bar: tqdm, looked: float) -> float:
        self.tally.look(self._steps_done, self._remedy())
        now = time.monotonic()  # when the device has done all that it was given
        self.progress.seconds += now - looked
        bar.set_postfix({name: f"{value:.3f}" for name, value in self.tally.means().items()})
        return now

    def _remedy(self) -> str:
        return (
            f"{self.keeper.where}Try a lower lr than {self.recipe.lr:g}, clip=1, or precision='float32'; "
            "check that inputs are in [0, 1]"
        )

    def _close_epoch(self) -> None:
        criterion = self.validation.criterion
        self.history.append(self._record())
        tired = out_of_patience(self.history, criterion, self.recipe.patience, self.settled)
        stopped = self.defense.stops(self.history) or tired
        self.progress, self.tally = Progress(self.progress.epoch + 1, stopped=stopped), Tally()
        if best_index(self.history, criterion, self.settled) == len(self.history) - 1:
            self.keeper.best(self.result, len(self.history))
        self.keeper.history(self.history)
        stages = self.defense.stages(self.recipe.epochs)
        if self.progress.epoch in stages:
            self.keeper.stage(self.result, stages.index(self.progress.epoch))
        self._keep_epoch()
        self._begin_epoch()  # before the state is saved: it holds the optimiser of the epoch that comes
        self._save()
        self.together.wait()

    def _keep_epoch(self) -> None:
        if self.progress.epoch in self.recipe.keep_epochs:
            self.keeper.epoch(self.result, self.progress.epoch)

    def _save(self) -> None:
        self.keeper.last(self.model, self.state())

    def _record(self) -> dict[str, Any]:
        names = [name for name in self.tally.sums]
        self.tally.sums = dict(zip(names, self.together.total([self.tally.sums[n] for n in names]), strict=True))
        images, seconds = self.tally.sums["images"], self.progress.seconds
        return {
            "epoch": self.progress.epoch + 1,
            "lr": self._rates(self._steps_done - 1)[0],
            **self.tally.means(),
            **self.validation.measure(self.result, self.together, self._gradients()),
            **self.defense.records(self.result),
            **self.regularisation.records(self.together),
            "seconds": seconds,
            "images_per_second": images / max(seconds, 1e-9),  # of all processes together
        }

    def state(self) -> dict[str, Any]:
        """Everything besides the weights that training goes on from."""
        return {
            "progress": vars(self.progress).copy(),
            "history": self.history,
            "tally": self.tally.sums,
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            **({"regularisation": self.regularisation.state_dict()} if self.regularisation else {}),
        }

    def restore(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Be where the loop was that gave this `state` and these `weights`."""
        self.model.load_state_dict(weights)
        self.progress, self.history = Progress(**state["progress"]), state["history"]
        self.tally = Tally(state["tally"])
        self._begin_epoch()
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.regularisation.load_state_dict(state.get("regularisation", {}))
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _mixed(*numbers: int) -> int:
    """One seed from several numbers."""
    return hash(numbers) % 2**63

"""A metric that keeps the laws, and for every law one that breaks it, in the way in which it is usually broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from netprobe.metrics import Metric, Readings
from netprobe.metrics.base import variable
from netprobe.probing.observables import Layout, Observable, Observation


class Squares(Observable):
    """Sum of squares under every condition, and how many numbers that is."""

    key = ("squares",)

    def __init__(self) -> None:
        self.total, self.count = torch.zeros(()), torch.zeros(())

    def update(self, observation: Observation) -> None:
        self.total = self.total + self.squares(observation.flat)
        self.count = self.count + observation.flat[0].numel()

    def squares(self, flat: torch.Tensor) -> torch.Tensor:
        return flat.double().square().sum((1, 2))

    def merge(self, other: Squares) -> None:
        self.total, self.count = self.total + other.total, self.count + other.count

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"sums": {"total": self.total, "count": self.count}}

    def restore(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        self.total, self.count = state["sums"]["total"], state["sums"]["count"]


@dataclass(frozen=True)
class MeanSquare(Metric):
    """Mean square of the activations."""

    name: ClassVar[str] = "mean_square"
    observable: ClassVar[type[Observable]] = Squares

    def observables(self, layout: Layout) -> list[Observable]:
        return [self.observable()]

    def compute(self, readings: Readings) -> xr.Dataset:
        values = np.stack([(o.total / o.count).numpy() for o in readings(self.observable.key)], 1)
        return readings.dataset({"mean_square": self.told(values)})

    def told(self, values: np.ndarray) -> xr.Variable:
        return variable("condition site", values, "mean square", "1", "over units and images")


def observing(**changes: Any) -> type[MeanSquare]:
    """The metric with another observable."""
    return type("Broken", (MeanSquare,), {"observable": type("BrokenSquares", (Squares,), changes)})


class Empty(MeanSquare):
    def compute(self, readings: Readings) -> xr.Dataset:
        return xr.Dataset()


def overwritten(self: Squares, observation: Observation) -> None:
    self.total, self.count = self.squares(observation.flat), torch.tensor(float(observation.flat[0].numel()))


def angles_by_batches(self: Squares, observation: Observation) -> None:
    """A mean of the batches' mean cosines, which weighs a small last batch like any other."""
    flat = observation.flat.double()
    self.total = self.total + torch.nn.functional.cosine_similarity(flat[:1], flat, dim=2).mean(1)
    self.count = self.count + 1


def taking_the_first(self: Squares, other: Squares) -> None:
    self.count = self.count + other.count


def adding_one(self: Squares, other: Squares) -> None:
    self.total, self.count = self.total + other.total, self.count + max(float(other.count), 1.0)


def weighing_by_position(self: Squares, observation: Observation) -> None:
    late = (observation.images + 1).double()
    self.total = self.total + (observation.flat.double().square().sum(2) * late).sum(1)
    self.count = self.count + observation.flat[0].numel()


class LastCondition(MeanSquare):
    def compute(self, readings: Readings) -> xr.Dataset:
        values = super().compute(readings).mean_square.values
        return readings.dataset({"mean_square": self.told(values[-1:].repeat(len(values), 0))})


def in_half_precision(self: Squares, flat: torch.Tensor) -> torch.Tensor:
    return (
        flat.double().square().sum((1, 2)) if flat.dtype == torch.float64 else flat.half().double().square().sum((1, 2))
    )


def half_a_state(self: Squares) -> dict[str, dict[str, torch.Tensor]]:
    return {"sums": {"total": self.total, "count": torch.ones(())}}


class NoNetCDF(MeanSquare):
    def told(self, values: np.ndarray) -> xr.Variable:
        made = super().told(values)
        made.attrs["bounds"] = {"low": 0}
        return made


def keeping(self: Squares, observation: Observation) -> None:
    Squares.update(self, observation)
    self.kept = torch.cat([getattr(self, "kept", torch.zeros(0)), observation.flat.flatten().float()])


def kept_state(self: Squares) -> dict[str, dict[str, torch.Tensor]]:
    return {**Squares.state(self), "kept": {"all": self.kept}}


class Ratio(MeanSquare):
    def compute(self, readings: Readings) -> xr.Dataset:
        values = super().compute(readings).mean_square.values
        return readings.dataset({"mean_square": self.told(values / (values - values[0] + values[0]))})


class Noisy(MeanSquare):
    def compute(self, readings: Readings) -> xr.Dataset:
        values = super().compute(readings).mean_square.values
        return readings.dataset({"mean_square": self.told(values * (1 + 1e-6 * np.arange(len(values)))[:, None])})


class HidesNaN(MeanSquare):
    def told(self, values: np.ndarray) -> xr.Variable:
        return super().told(np.nan_to_num(values))


class Meaningless(MeanSquare):
    def told(self, values: np.ndarray) -> xr.Variable:
        return xr.Variable(("condition", "site"), values)


@dataclass(frozen=True)
class Listed(MeanSquare):
    orders: list[int] = field(default_factory=lambda: [1, 2])


class Forgetful(MeanSquare):
    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", None)


BROKEN = {
    "results_can_be_computed": Empty,
    "any_batch_size": observing(update=overwritten),
    "shards_merge_to_the_whole": observing(merge=taking_the_first),
    "merging_an_empty_part_changes_nothing": observing(merge=adding_one),
    "the_order_of_the_data_does_not_matter": observing(update=weighing_by_position),
    "other_perturbations_and_sites_do_not_matter": LastCondition,
    "float32_agrees_with_float64": observing(squares=in_half_precision),
    "parts_survive_a_file_exactly": observing(state=half_a_state),
    "results_survive_a_file_exactly": NoNetCDF,
    "state_does_not_grow_with_the_images": observing(update=keeping, state=kept_state),
    "nothing_changes": Noisy,
    "degenerate_networks_and_data": Ratio,
    "networks_that_overflow": HidesNaN,
    "variables_carry_their_meaning": Meaningless,
    "settings_are_values": Listed,
    "its_own_sites_come_before_the_probes": Forgetful,
}

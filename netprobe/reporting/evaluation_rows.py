"""What the verdict says of an evaluation: whether to believe it, the numbers, and the paired differences."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from netprobe.groups import COMPARISON, DOUBTS
from netprobe.plots.reading import models_with, pick, told
from netprobe.reporting.estimates import Estimate, number
from netprobe.reporting.rows import Row, every_model, read


def trust(results: xr.DataTree) -> dict[str, str]:
    """The sentence of every model that was doubted."""
    if DOUBTS not in results.children:
        return {}
    data = results[DOUBTS].to_dataset()
    return {str(m): str(sentence) for m, sentence in zip(data["subject"].values, data["verdict"].values, strict=True)}


def evaluation_rows(results: xr.DataTree) -> Iterator[Row]:
    """Accuracy, unless a probe's rows say it already; worst cases; minimum norms; mean error under corruptions."""
    if not models_with(results, "accuracy"):
        yield from _accuracy(results)
    every = every_model(results, "worst_case")
    for budget in every[0].data["budget"].values if every else []:
        estimates = {e.model: read(e, "worst_accuracy", 100, budget=str(budget)) for e in every}
        yield Row(f"Accuracy, worst case within {budget}", "higher: more images stand", "%", 1, estimates)
    every = every_model(results, "minimum_norm")
    for name in every[0].data["condition"].values if every else []:
        estimates = {e.model: read(e, "median", condition=str(name)) for e in every}
        yield Row(f"Median minimum norm, {name}", "larger: errors are farther away", "", 3, estimates)
    every = every_model(results, "boundary_distance")
    for name in every[0].data["attack"].values if every else []:
        estimates = {e.model: read(e, "median", attack=str(name)) for e in every}
        quantity = f"Squared distance to the boundary per coordinate, {name}"
        yield Row(quantity, "larger: the boundary is farther away", "", 6, estimates)
    if every := every_model(results, "corruptions"):
        estimates = {e.model: read(e, "mean_error", 100) for e in every}
        yield Row("Mean error under corruptions", "lower: more images correct", "%", 1, estimates)


def _accuracy(results: xr.DataTree) -> Iterator[Row]:
    every = every_model(results, "evaluation")
    for each in told(every[0].data) if every else []:
        name = "clean" if each.name == "clean" else f"under {each}"
        estimates = {e.model: read(e, "accuracy", 100, condition=each.name) for e in every}
        yield Row(f"Accuracy, {name}", "higher: more images correct", "%", 1, estimates)


def evaluated(results: xr.DataTree, one: str, other: str) -> Iterator[str]:
    """The paired differences of accuracy, other minus one, of the conditions that are told one by one."""
    if COMPARISON not in results.children:
        return
    data = results[COMPARISON].to_dataset()
    pairs = list(zip(data["model"].values, data["reference"].values, strict=True))
    for under in told(data) if (other, one) in pairs else []:
        name, chosen = under.name, pick(data.isel(pair=pairs.index((other, one))), condition=under.name)
        low, high = (100 * float(bound) for bound in chosen["difference_interval"].values)
        difference = Estimate(100 * float(chosen["difference"]), low, high).write(1, "points")
        said = _of_images if "only_model" in chosen else _of_trainings
        zero = "includes" if low <= 0 <= high else "excludes"
        yield (
            f"{'Clean' if name == 'clean' else f'Under {under}'}: "
            f"{said(chosen, one, other, difference)}; the interval {zero} zero."
        )


def _of_images(chosen: xr.Dataset, one: str, other: str, difference: str) -> str:
    return (
        f"{other} alone is right {number(float(chosen['only_model']), 0)} times and {one} alone "
        f"{number(float(chosen['only_reference']), 0)} times, a paired difference of {difference}"
    )


def _of_trainings(chosen: xr.Dataset, one: str, other: str, difference: str) -> str:
    trainings = f"{int(chosen['reference_trainings'])} trainings of {one} and {int(chosen['trainings'])} of {other}"
    return f"a difference of {difference} over {trainings}"

"""What a plot reads from results: models, conditions, an estimate with its interval, a label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import xarray as xr

from netprobe.errors import NetprobeError, unknown
from netprobe.groups import NOT_A_MODEL

# What `npb.evaluate` gives.
OF_EVALUATION = (
    *("evaluation", "worst_case", "minimum_norm", "boundary_distance", "perturbation_spectrum", "spectrum_difference"),
    *("corruptions", "frequency_gains", "landscape"),
)
# What `npb.fit`, `npb.training.partial.sweep` and the analyses of defenses give.
OF_TRAINING = (
    *("history", "followed", "partial", "polarization", "atoms", "code", "firing", "prototypes", "settling"),
    "lateral",
)
OF_REPRESENTATIONS = ("similarity", "rsa", "cka_matrix")  # what `netprobe similarity` gives
OF_GEOMETRY = ("jacobian", "distances", "units", "plane")  # what `netprobe.geometry` gives
OF_WEIGHTS = ("singular_values", "filters", "batch_norm", "batch_norm_drift")  # what `netprobe.weights` gives

# What every plot of a metric reads; a Dataset without it is of another metric.
DRAWN = {
    "accuracy": ("accuracy",),
    "atoms": ("weight", "length", "brightness"),
    "batch_norm": ("running_mean", "running_variance", "gamma", "beta"),
    "batch_norm_drift": ("mean_shift", "log_variance_ratio", "symmetric_kl"),
    "boundary_distance": ("median", "attack"),
    "cka": ("cka",),
    "cka_matrix": ("cka", "other_site"),
    "correlation": ("shift", "shift_per_pair"),
    "code": ("value", "left"),
    "corruptions": ("accuracy", "error"),
    "distances": ("distance", "censored", "median", "eps", "relative_accuracy", "clean_accuracy"),
    "evaluation": ("accuracy", "mean_loss"),
    "filters": ("hoyer", "hoyer_filter"),
    "firing": ("frequency", "always", "even"),
    "followed": ("accuracy", "mean_loss", "mean_frobenius"),
    "frequency_gains": ("gain", "group_gain", "centroid"),
    "gradcam": ("map", "predicted"),
    "history": ("loss", "accuracy"),
    "hoyer": ("hoyer",),
    "jacobian": ("mean_frobenius", "mean_operator"),
    "lateral": ("weight",),
    "landscape": ("loss", "along", "across"),
    "minimum_norm": ("mean", "median", "success"),
    "partial": ("adversarial_accuracy", "whole_adversarial_accuracy", "converged", "layer_parameters"),
    "perturbation_spectrum": ("profile",),
    "plane": ("prediction", "confidence", "frobenius"),
    "polarization": ("density", "danger", "threshold"),
    "prototypes": ("weight", "variance", "kept"),
    "psr": ("psr_db",),
    "rsa": ("pearson", "spearman"),
    "settling": ("energy", "lateral", "reconstruction", "residual", "accuracy", "probability"),
    "similarity": ("similarity",),
    "singular_values": ("normalized", "operator_norm", "effective_rank", "median_normalized"),
    "snr": ("snr_db", "snr_median_db"),
    "spectrum": ("eigenvalues", "alpha", "log_prefactor", "fit_first", "fit_last"),
    "units": ("eigenvalues", "alpha", "alpha_corrected", "fit_first", "fit_last", "log_prefactor"),
    "worst_case": ("worst_accuracy",),
}

GIVEN_BY = {
    **dict.fromkeys(OF_EVALUATION, "evaluate"),
    "landscape": "loss_landscape",
    **dict.fromkeys(OF_TRAINING, "fit"),
    "followed": "follow",
    "partial": "training.partial.sweep",
    "polarization": "polarization",
    "atoms": "dictionary_atoms",
    "code": "code_steps",
    "firing": "defenses.hah.firing",
    "settling": "settling",
    "lateral": "lateral_map",
    "prototypes": "prototypes",
    "similarity": "similarity_matrices",
    "frequency_gains": "frequency_gains",
    "rsa": "rsa",
    "cka_matrix": "cka_matrix",
    "jacobian": "jacobian_norms",
    "distances": "critical_distances",
    "units": "unit_spectra",
    "plane": "decision_plane",
    **dict.fromkeys(OF_WEIGHTS, "weights.analyse"),
}
"""The function of netprobe that measures a metric, if not the probe."""

STRENGTHS = {"Gaussian noise": "σ", "salt and pepper": "amount"}
"""What the strength of a family is called, if not ε; the coordinate of results is "eps" for all of them."""
RELATIVE = {"amount": "share of the coordinates"}
"""Strengths that are not in the units of the input."""

MANY = 16  # conditions that a reader takes in one by one


class Measured(NamedTuple):
    """One model's Dataset of one metric; its place among the models, `index`, decides its colour."""

    model: str
    index: int
    data: xr.Dataset


def models_of(results: xr.DataTree) -> list[str]:
    """The models of a result, in the order in which they were probed."""
    return [name for name in results.children if name not in NOT_A_MODEL]


def models_with(results: xr.DataTree, metric: str) -> list[str]:
    """The models for which `metric` was measured."""
    return [name for name in models_of(results) if metric in results[name].children]


def measured(
    results: xr.DataTree | xr.Dataset | Mapping[str, xr.Dataset], metric: str, models: Iterable[str] | None = None
) -> list[Measured]:
    """The Datasets of `metric`: of all models of a tree, of the named ones, or those given, alone or by name."""
    if isinstance(results, xr.Dataset):
        every = [Measured(str(results.attrs.get("model", "")), 0, results)]
    elif not isinstance(results, xr.DataTree):
        everyone = list(results)
        every = [Measured(name, everyone.index(name), results[name]) for name in _named_ones(everyone, models)]
    elif metric in results.children:  # the node of one model
        every = [Measured(results.name or "", 0, results[metric].to_dataset())]
    else:
        everyone, wanted = models_of(results), _wanted(results, metric, models)
        every = [Measured(name, everyone.index(name), results[name][metric].to_dataset()) for name in wanted]
    if not every:
        raise NetprobeError(f"there is nothing to draw: give the {metric!r} of a model or more")
    for entry in every:
        for name in DRAWN[metric]:
            variable(entry.data, name)
    return every


def _wanted(results: xr.DataTree, metric: str, models: Iterable[str] | None) -> list[str]:
    wanted = _named_ones(models_of(results), models)
    _require(metric, wanted, models_with(results, metric), results)
    return wanted


def _named_ones(everyone: Sequence[str], models: Iterable[str] | None) -> list[str]:
    """`models`, each of them one of `everyone`; None is everyone."""
    wanted = list(everyone) if models is None else [models] if isinstance(models, str) else list(models)
    for name in set(wanted) - set(everyone):
        raise unknown("model", name, everyone, "Name models of these results.")
    return wanted


def _require(metric: str, wanted: Sequence[str], having: Sequence[str], results: xr.DataTree) -> None:
    lacking = [name for name in wanted if name not in having]
    if not lacking and wanted:
        return
    there = sorted({metric for name in models_of(results) for metric in results[name].children})
    remedy = f"probe again with metrics=[..., {metric!r}]"
    if metric in GIVEN_BY:
        remedy = f"add it with npb.{GIVEN_BY[metric]}"
    narrower = f" or draw only models={having}" if having else ""
    raise NetprobeError(
        f"these results have no {metric!r} for {', '.join(map(repr, lacking)) or 'any model'} "
        f"(measured: {', '.join(there) or 'nothing'}): {remedy}{narrower}"
    )


def variable(data: xr.Dataset, name: str) -> xr.DataArray:
    """`data[name]`, or an error that says what there is instead."""
    if name not in data.variables:
        raise unknown("variable", name, data.data_vars, "Pass the results of the metric that this plot draws.")
    return data[name]


def pick(data: xr.Dataset, **labels: str | list[str]) -> xr.Dataset:
    """`data` at the label (or the labels, in their order) of each dimension that it has."""
    for dim, wanted in labels.items():
        if dim in data.dims:
            several = isinstance(wanted, list)
            places = [_place(data, dim, label) for label in (wanted if several else [wanted])]
            data = data.isel({dim: places if several else places[0]})
    return data


def _place(data: xr.Dataset, dim: str, label: str) -> int:
    choices = [str(choice) for choice in data[dim].values]
    if str(label) not in choices:
        raise unknown(dim, label, choices, f"Choose {dim}= among those that were probed.")
    return choices.index(str(label))


def select(every: Iterable[Measured], **labels: str | list[str]) -> list[Measured]:
    """`pick` for every model."""
    return [entry._replace(data=pick(entry.data, **labels)) for entry in every]


class Condition(NamedTuple):
    """A perturbation, or the clean images: its name in the results, family, and budget or NaN."""

    name: str
    family: str
    eps: float

    @property
    def base(self) -> str:
        """The name without what tells the members of a sweep apart: "pgd" of "pgd@8/255", "pgd@0.0314" and "pgd-2"."""
        stem, _, member = self.name.partition("@")
        return self.name if member and np.isnan(_number(member)) else re.sub(r"-\d+$", "", stem)

    @property
    def graded(self) -> bool:
        """Whether `eps` is the severity of a common corruption, which has no unit."""
        if self.eps not in (1, 2, 3, 4, 5):
            return False
        from netprobe.perturb.corruptions import CORRUPTIONS  # torch, which plots do without otherwise

        return self.family in CORRUPTIONS

    @property
    def symbol(self) -> str:
        """What `eps` is called: ε of an attack, σ of Gaussian noise."""
        return STRENGTHS.get(self.family, "ε")

    @property
    def relative(self) -> bool:
        """Whether `eps` is a share, not in units of the input."""
        return self.symbol in RELATIVE

    def axis(self, units: str = "input units") -> str:
        """The label of an axis of strengths in these units."""
        if self.graded:
            return "Severity"
        return f"{self.symbol.capitalize()} ({RELATIVE[self.symbol]})" if self.relative else f"{self.symbol} ({units})"

    def __str__(self) -> str:
        """As people say it: "pgd@0.0314" is "pgd ε=8/255", "noise@0.1" "noise σ=0.1", "fog@3" "fog severity 3"."""
        if not np.isfinite(self.eps) or self.name == "clean":
            return self.name
        strength = f"severity {self.eps:g}" if self.graded else f"{self.symbol}={budget(self.eps)}"
        return f"{self.base} {strength}"


def conditions(data: xr.Dataset, dim: str = "perturbation") -> list[Condition]:
    """What there is along `dim`, "perturbation" or "condition", in order; one if it was selected already."""
    if dim not in data.coords:
        return []
    known = {each.name: each for other in ("condition", "perturbation") for each in _described(data, other)}
    return [known.get(name) or _named(name) for name in map(str, np.atleast_1d(data[dim].values))]


def _described(data: xr.Dataset, dim: str) -> list[Condition]:
    """The conditions along `dim` if the coordinates family and eps belong to it."""
    if not {dim, "family", "eps"} <= set(data.coords) or data["family"].dims != data[dim].dims:
        return []
    columns = (np.atleast_1d(data[coordinate].values) for coordinate in (dim, "family", "eps"))
    return [Condition(str(name), str(family), float(eps)) for name, family, eps in zip(*columns, strict=True)]


def _named(name: str) -> Condition:
    """What a name alone tells: family@eps."""
    family, _, eps = name.partition("@")
    return Condition(name, family, _number(eps))


def _number(text: str) -> float:
    """The value of "0.0314" or "8/255"; NaN for anything else."""
    try:
        return float(Fraction(text))
    except ValueError:
        return np.nan


def strongest(data: xr.Dataset) -> str:
    """The perturbation drawn when none is named: the largest eps of the first family."""
    return next(iter(strongest_of_families(data)), "")


def strongest_of_families(data: xr.Dataset, dim: str = "perturbation") -> list[str]:
    """For every perturbation (or condition), in order, the name of its member with the largest eps."""
    return [max(members, key=lambda each: each.eps).name for members in _families(data, dim)]


def tabled(data: xr.Dataset) -> set[str]:
    """The conditions of an evaluation whose accuracy is told elsewhere: corruptions, and attacks without a budget."""
    if "role" not in data.coords:
        return set()
    return set(data["condition"].values[np.isin(data["role"].values.astype(str), ("corruption", "minimum norm"))])


def told(data: xr.Dataset) -> list[Condition]:
    """The conditions of an evaluation to tell one by one: those not `tabled`; of many, the strongest of each sweep."""
    elsewhere = tabled(data)
    every = [each for each in conditions(data, "condition") if each.name not in elsewhere]
    strongest = strongest_of_families(data, "condition") if len(every) > MANY else None
    return [each for each in every if strongest is None or each.name in strongest]


def sweep(data: xr.Dataset, family: str | None = None, dim: str = "perturbation", base: str | None = None) -> list[str]:
    """The members of `family` (None: of the first with several eps), by growing eps; may be none.

    `base` narrows that to those of one name before the "@".
    """
    families = [members for members in _families(data, dim) if base in (None, members[0].base)]
    swept = [[each for each in members if np.isfinite(each.eps)] for members in families]
    known = {members[0].family: None for members in swept if members}
    if family is not None and family not in known:
        raise unknown("family", family, known, "Only families with eps can be drawn over eps.")
    for members in swept:
        by_eps = {each.eps: each.name for each in members if family in (None, each.family)}
        if len(by_eps) > 1:
            return [by_eps[eps] for eps in sorted(by_eps)]
    return []


def _families(data: xr.Dataset, dim: str = "perturbation") -> list[list[Condition]]:
    """Conditions of one family and base name, which differ in eps alone."""
    families: dict[tuple[str, str], list[Condition]] = {}
    for each in conditions(data, dim):
        families.setdefault((each.family, each.base), []).append(each)
    return list(families.values())


def perturbed(
    results: xr.DataTree | xr.Dataset,
    metric: str,
    models: Iterable[str] | None,
    perturbation: str | None,
    **labels: str,
) -> list[Measured]:
    """`measured` at one perturbation, None the strongest, and at the other labels."""
    every = measured(results, metric, models)
    return select(every, perturbation=perturbation or strongest(every[0].data), **labels)


def interval(data: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of `name`; NaN where the results carry none."""
    bounds = data.get(f"{name}_interval")
    if bounds is None:
        nothing = np.full(data[name].shape, np.nan)
        return nothing, nothing
    return bounds.sel(bound="low").values, bounds.sel(bound="high").values


def label(array: xr.DataArray, unit: bool = True) -> str:
    """An axis label from the variable's own attributes: its long name and, if it has one, its unit."""
    text = str(array.attrs.get("long_name", array.name))
    units = str(array.attrs.get("units", "")) if unit else ""
    return text[:1].upper() + text[1:] + (f" ({units})" if units not in ("", "1", "dimensionless") else "")


def budget(eps: float) -> str:
    """`eps` as people write it: 8/255 where it is a whole number of grey levels."""
    levels = round(eps * 255)
    plain = f"{eps:.2g}" == f"{eps:.4g}"  # 0.2 is no grey level to anyone, though it is 51/255
    return f"{eps:.3g}" if plain or f"{levels / 255:.3g}" != f"{eps:.3g}" else f"{levels}/255"


def describe(data: xr.Dataset, dim: str = "perturbation") -> str:
    """The one perturbation, or condition, that `data` was selected for, in words."""
    for each in conditions(data, dim) if dim in data.coords and data[dim].ndim == 0 else []:
        other = each.family.lower() not in ("", each.base.lower())
        return "clean images" if each.name == "clean" else f"{each} ({each.family})" if other else str(each)
    return ""


def along(data: xr.Dataset) -> str:
    """The dimension that runs through the network: "layer" for what is read off the weights, otherwise "site"."""
    return "layer" if "layer" in data.coords else "site"


def places(data: xr.Dataset) -> np.ndarray:
    """The names of the sites, or layers, in run order."""
    return data[along(data)].values


def spaced(data: xr.Dataset, sites: Iterable[str] | None, most: int) -> list[str]:
    """The named sites, or of all of them at most `most`, evenly spaced, with the first and the last."""
    names = list(map(str, places(data)))
    if sites is None:
        steps = np.linspace(0, len(names) - 1, min(most, len(names)))
        return [names[k] for k in dict.fromkeys(steps.round().astype(int))]
    wanted = [sites] if isinstance(sites, str) else list(sites)
    for name in wanted:
        if name not in names:
            raise unknown(along(data), name, names, f"Name {along(data)}s of these results.")
    return wanted


def same_sites(every: Sequence[Measured]) -> bool:
    """Whether all models were read at sites (or layers) of the same names in the same order."""
    return all(np.array_equal(places(entry.data), places(every[0].data)) for entry in every)


def require_same_sites(every: Sequence[Measured], what: str) -> None:
    """An error that names the models if their sites (or layers) differ."""
    if not same_sites(every):
        names = ", ".join(repr(entry.model) for entry in every)
        raise NetprobeError(
            f"{what} need the same {along(every[0].data)}s in every model, and {names} differ: "
            "choose some with models=[...]"
        )

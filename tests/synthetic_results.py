"""A DataTree with the schema of `npb.probe`, drawn from plausible distributions instead of networks.

Plots and reports are tested on it. Estimates of PSR, SNR, Hoyer ratio and accuracy are computed from the
per-image values beside them, so that a test can compute them again.
"""

from __future__ import annotations

import json

import numpy as np
import xarray as xr
from synthetic_evaluations import evaluations
from synthetic_front_ends import dictionary, firing, polarization, prototypes
from synthetic_geometry import geometry
from synthetic_histories import followed, history
from synthetic_partial import partial_training
from synthetic_similarities import similarities
from synthetic_steps import lateral, settling

SITES = (
    "conv1",
    *(f"layer{stage}.{block}.conv{conv}" for stage in (1, 2, 3) for block in (0, 1, 2) for conv in (1, 2)),
    "fc",
)
PERTURBATIONS = {"pgd@0.00784": 2 / 255, "pgd@0.0157": 4 / 255, "pgd@0.0314": 8 / 255, "noise": 0.1}
NORMS = ("1", "2", "inf")
# PSR in dB at the first and at the last site under the largest eps; log-normal spread at the last site.
TRAITS = {"natural": (-13.0, 9.0, 0.5), "robust": (-17.0, -9.5, 0.25), "trades": (-17.5, -11.5, 0.25)}


def synthetic_results(
    models: tuple[str, ...] = ("natural", "robust", "trades"),
    *,
    sites: tuple[str, ...] | dict[str, tuple[str, ...]] = SITES,
    images: int = 200,
    maps: int = 6,
    seed: int = 0,
    findings: bool = True,
) -> xr.DataTree:
    """Results of `models`; an unknown name takes the traits of a known one; `sites` may differ per model."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 10, images)
    groups: dict[str, xr.Dataset] = {
        "/": xr.Dataset(attrs={"provenance": json.dumps(provenance(models, images, seed))})
    }
    for number, model in enumerate(models):
        traits = TRAITS.get(model, list(TRAITS.values())[number % len(TRAITS)])
        own = sites[model] if isinstance(sites, dict) else sites
        for metric, data in one_model(traits, own, images, maps, label, rng).items():
            groups[f"/{model}/{metric}"] = data
    own = {model: sites[model] if isinstance(sites, dict) else sites for model in models}
    groups |= similarities(own, min(images // 2, 12), described)
    groups["/preflight"] = preflight(models if findings else ())
    return xr.DataTree.from_dict(groups)


def one_model(traits, sites, images, maps, label, rng) -> dict[str, xr.Dataset]:
    site = {
        "site": ("site", list(sites)),
        "kind": ("site", ["Linear" if name == "fc" else "Conv2d" for name in sites]),
        "order": ("site", np.arange(len(sites))),
        "depth": ("site", (1 + np.arange(len(sites))) / len(sites)),
    }
    layer = {"layer" if name == "site" else name: ("layer", values) for name, (_, values) in site.items()}
    evaluated = evaluations(traits[1] > 0, images, label, np.random.default_rng(len(sites)), described, wilson)
    return (
        weights(traits, layer, np.random.default_rng(len(sites)))
        | evaluated
        | geometry()
        | dictionary(np.random.default_rng(len(sites)), described)
        | {
            "accuracy": accuracy(traits, images, label, rng),
            "psr": psr(traits, site, images, rng),
            "snr": snr(traits, site | {"site": ("site", [f"{name}:in" for name in sites])}, images, rng),
            "hoyer": hoyer(traits, site, images, rng),
            "spectrum": spectrum(traits, site, images, rng),
            "correlation": correlation(traits, site, images, rng),
            "cka": cka(traits, site, rng),
            "perturbation_spectrum": perturbation_spectrum(traits, images, np.random.default_rng(len(sites))),
            "gradcam": gradcam(sites, rng, maps),
            "polarization": polarization(np.random.default_rng(len(sites)), described),
            "firing": firing(site, np.random.default_rng(len(sites)), described),
            "prototypes": prototypes(np.random.default_rng(len(sites)), described),
            "settling": settling(traits[1] > 0, images, np.random.default_rng(len(sites)), described, wilson),
            "lateral": lateral(np.random.default_rng(len(sites)), described),
            "partial": partial_training(traits[1] > 0, sites),
            "history": history(traits[1], np.random.default_rng(len(sites)), described, wilson),
            "followed": followed(traits[1], site, np.random.default_rng(len(sites)), described),
        }
    )


def conditions(dim: str) -> dict:
    names, eps = list(PERTURBATIONS), list(PERTURBATIONS.values())
    family = ["Gaussian noise" if name == "noise" else "PGD" for name in names]
    if dim == "condition":
        names, eps, family = ["clean", *names], [0.0, *eps], ["clean", *family]
    return {dim: (dim, names), "family": (dim, family), "eps": (dim, eps)}


def strength() -> np.ndarray:
    """Relative size of each perturbation: 1 for the largest eps, noise like the smallest."""
    return np.array([0.15 if name == "noise" else eps / (8 / 255) for name, eps in PERTURBATIONS.items()])


def described(data: xr.Dataset, **about: tuple[str, str, str]) -> xr.Dataset:
    for name in map(str, data.data_vars):
        long_name, units, definition = about.get(name.removesuffix("_interval"), (name.replace("_", " "), "1", name))
        data[name].attrs = {"long_name": long_name, "units": units, "definition": definition}
    return data.assign_coords(bound=["low", "high"]) if "bound" in data.dims else data


def bootstrap(values: np.ndarray, rng: np.random.Generator, of=lambda mean: mean, draws: int = 200) -> np.ndarray:
    """95 % interval of `of(mean over the last axis)`, as a trailing axis of two."""
    images = values.shape[-1]
    weights = rng.multinomial(images, np.full(images, 1 / images), size=draws) / images
    return np.moveaxis(np.quantile(of(values @ weights.T), [0.025, 0.975], axis=-1), 0, -1)


def wilson(share: np.ndarray, n: int, z: float = 1.959964) -> np.ndarray:
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.stack([middle - half, middle + half], -1) / (1 + z**2 / n)


def accuracy(traits, images, label, rng) -> xr.Dataset:
    fragile = traits[1] > 0
    chance = 1 - (1.0 if fragile else 0.55) * np.array([0, *strength()]) - (0.06 if fragile else 0.16)
    correct = (rng.random((len(chance), images)) < np.clip(chance, 0, 1)[:, None]).astype(np.int8)
    share = correct.mean(-1)
    return described(
        xr.Dataset(
            {
                "correct": (("condition", "image"), correct),
                "prediction": (("condition", "image"), np.where(correct, label, (label + 1) % 10)),
                "label": ("image", label),
                "accuracy": ("condition", share),
                "accuracy_interval": (("condition", "bound"), wilson(share, images)),
            },
            coords=conditions("condition") | {"image": np.arange(images)},
        ),
        accuracy=("accuracy", "1", "share of images classified correctly, Wilson 95 % interval"),
    )


def psr(traits, site, images, rng) -> xr.Dataset:
    first, last, spread = traits
    depth = site["depth"][1]
    level = 10 ** ((first + (last - first) * depth**0.8 + 1.5 * np.sin(9 * depth)) / 20)
    ratio = np.exp(rng.normal(size=(len(depth), images)) * (0.15 + (spread - 0.15) * depth)[:, None]) * level[:, None]
    values = strength()[:, None, None, None] ** 0.8 * np.array([0.8, 1.0, 1.3])[:, None, None] * ratio
    decibel = lambda mean: 20 * np.log10(mean)  # noqa: E731
    return described(
        xr.Dataset(
            {
                "psr": (("perturbation", "norm", "site", "image"), values),
                "psr_db": (("perturbation", "norm", "site"), decibel(values.mean(-1))),
                "psr_db_interval": (
                    ("perturbation", "norm", "site", "bound"),
                    bootstrap(values, rng, decibel),
                ),
                "psr_median": (("perturbation", "norm", "site"), np.median(values, -1)),
            },
            coords=conditions("perturbation") | site | {"norm": list(NORMS), "image": np.arange(images)},
        ),
        psr=("perturbation-to-signal ratio", "1", "||f(x') - f(x)||_p / ||f(x)||_p"),
        psr_db=("perturbation-to-signal ratio", "dB", "20 log10 of the mean over images of the ratio"),
        psr_median=("median perturbation-to-signal ratio", "1", "median over images of the ratio"),
    )


def snr(traits, site, images, rng) -> xr.Dataset:
    depth = site["depth"][1]
    level = 10 ** ((8.5 - (10 if traits[1] > 0 else 3) * depth) / 10)
    ratio = level[:, None] * np.exp(rng.normal(size=(len(depth), images)) * 0.7)
    values = ratio / strength()[:, None, None] * 0.15
    decibel = lambda mean: 10 * np.log10(mean)  # noqa: E731
    return described(
        xr.Dataset(
            {
                "snr": (("perturbation", "site", "image"), values),
                "snr_db": (("perturbation", "site"), decibel(values.mean(-1))),
                "snr_db_interval": (("perturbation", "site", "bound"), bootstrap(values, rng, decibel)),
                "snr_median_db": (("perturbation", "site"), decibel(np.median(values, -1))),
            },
            coords=conditions("perturbation") | site | {"image": np.arange(images)},
        ),
        snr_db=("signal-to-noise ratio", "dB", "10 log10 of the mean over images of the power ratio"),
        snr_median_db=("median signal-to-noise ratio", "dB", "10 log10 of the median power ratio"),
    )


def hoyer(traits, site, images, rng) -> xr.Dataset:
    depth, shape = site["depth"][1], (len(PERTURBATIONS) + 1, len(site["depth"][1]), images)
    level = (0.42 if traits[1] > 0 else 0.33) - 0.2 * depth
    values = np.clip(level[:, None] + rng.normal(size=shape) * 0.05, 0, 1)
    return described(
        xr.Dataset(
            {
                "hoyer_image": (("condition", "site", "image"), values),
                "hoyer": (("condition", "site"), values.mean(-1)),
                "hoyer_interval": (("condition", "site", "bound"), bootstrap(values, rng)),
                "silent": (("condition", "site"), np.broadcast_to(0.1 * depth**2, shape[:2]).copy()),
            },
            coords=conditions("condition") | site | {"image": np.arange(images)},
        ),
        hoyer=(
            "squared Hoyer ratio",
            "1",
            "((||a||_1/||a||_2)^2 - 1)/(C - 1) across channels, 0 = one active",
        ),
        silent=("share of silent locations", "1", "share of locations with every channel zero"),
    )


def spectrum(traits, site, images, rng) -> xr.Dataset:
    names, definitions = conditions("condition"), ["channel", "pooled"]
    shape, ranks = (2, len(PERTURBATIONS) + 1, len(site["depth"][1])), np.arange(1, 65)
    alpha = (
        np.broadcast_to((1.0 if traits[1] > 0 else 1.6) + 0.8 * site["depth"][1], shape) + rng.normal(size=shape) * 0.02
    )
    values = 40.0 * ranks ** -alpha[..., None] * np.exp(rng.normal(size=(*shape, len(ranks))) * 0.04)
    values = -np.sort(-values, axis=-1)
    values[1, ..., 48:] = np.nan
    around = lambda half: alpha[..., None] + half * np.array([-1, 1])  # noqa: E731
    full = lambda value: (("definition", "condition", "site"), np.full(shape, value))  # noqa: E731
    bounds = ("definition", "condition", "site", "bound")
    return described(
        xr.Dataset(
            {
                "eigenvalues": (("definition", "condition", "site", "rank"), values),
                "alpha": (("definition", "condition", "site"), alpha),
                "alpha_interval": (bounds, around(0.06)),
                "alpha_jackknife": (bounds, np.full((*shape, 2), np.nan)),
                "alpha_band": (bounds, around(0.25) + 0.05),
                "log_prefactor": full(np.log10(40.0)),
                "fit_first": full(5),
                "fit_last": full(40),
                "r2": full(0.99),
                "rank_numeric": full(48),
                "participation_ratio": (
                    ("definition", "condition", "site"),
                    values[..., :48].sum(-1) ** 2 / (values[..., :48] ** 2).sum(-1),
                ),
            },
            coords=names | site | {"definition": definitions, "rank": ranks},
        ),
        eigenvalues=("eigenvalue of the covariance", "1", "of the covariance over images, descending"),
        alpha=("power-law exponent α", "1", "minus the OLS slope of ln eigenvalue on ln rank"),
    )


def correlation(traits, site, images, rng) -> xr.Dataset:
    depth = site["depth"][1]
    shift = images * (0.25 if traits[1] > 0 else 0.08) * strength()[:, None] ** 0.7 * (0.2 + depth)
    live = np.where(np.arange(len(depth)) == 3, np.nan, 64.0)
    share = np.linspace(0, 1, 101)
    change = np.clip((shift / live)[..., None] * share / 5, 0, 2)
    return described(
        xr.Dataset(
            {
                "shift": (("perturbation", "site"), shift),
                "shift_interval": (
                    ("perturbation", "site", "bound"),
                    shift[..., None] * np.array([0.93, 1.08]),
                ),
                "shift_per_pair": (("perturbation", "site"), shift / live),
                "change": (("perturbation", "site", "share"), change),
                "live_units": (("perturbation", "site"), np.broadcast_to(np.nan_to_num(live), shift.shape)),
            },
            coords=conditions("perturbation") | site | {"share": share},
        ),
        shift=("correlation shift", "1", "||R_0 - R_eps||_F over images"),
        shift_per_pair=(
            "correlation shift per pair",
            "1",
            "shift divided by the number of pairs of live units",
        ),
    )


def cka(traits, site, rng) -> xr.Dataset:
    value = np.clip(1 - (0.8 if traits[1] > 0 else 0.2) * strength()[:, None] * site["depth"][1], 0, 1)
    interval = np.clip(value[..., None] + np.array([-0.03, 0.03]), 0, 1)
    return described(
        xr.Dataset(
            {
                "cka": (("perturbation", "site"), value),
                "cka_interval": (("perturbation", "site", "bound"), interval),
            },
            coords=conditions("perturbation") | site,
        ),
        cka=(
            "linear CKA between clean and perturbed",
            "1",
            "1 = same representation up to rotation and scale",
        ),
    )


def perturbation_spectrum(traits, images, rng) -> xr.Dataset:
    """Coarse changes for robust models, nearly white ones for the others."""
    radius, side = np.arange(23), np.arange(-4, 4)
    plane = np.tile(np.hypot(side[:, None], side), (len(PERTURBATIONS), 1, 1))
    slope = 0.05 if traits[1] > 0 else 0.15
    values = np.exp(-slope * radius[:, None] + 0.3 * rng.normal(size=(len(PERTURBATIONS), 23, images)))
    return described(
        xr.Dataset(
            {
                "profile": (("perturbation", "radius"), values.mean(-1)),
                "profile_interval": (("perturbation", "radius", "bound"), bootstrap(values, rng)),
                "log_spectrum": (("perturbation", "frequency_y", "frequency_x"), -slope * plane),
                "centroid": ("perturbation", np.full(len(PERTURBATIONS), 8.0)),
                "centroid_interval": (("perturbation", "bound"), np.tile([7.5, 8.5], (len(PERTURBATIONS), 1))),
                "low_frequency_share": (("perturbation", "cutoff"), np.tile([0.1, 0.3], (len(PERTURBATIONS), 1))),
                "changed": ("perturbation", np.full(len(PERTURBATIONS), images)),
            },
            coords=conditions("perturbation")
            | {"radius": radius, "cutoff": [4, 8], "frequency_y": side, "frequency_x": side},
        ),
        profile=("power relative to white noise", "1", "mean over images of the share of power in a ring"),
    )


def gradcam(sites, rng, images, size: int = 32) -> xr.Dataset:
    y, x = np.mgrid[:size, :size] / size
    place = np.random.default_rng(1).random((images, 3, 2))  # the same images for every model
    blob = np.exp(-((x - place[..., 0, None, None]) ** 2 + (y - place[..., 1, None, None]) ** 2) / 0.05)
    centre = rng.random((len(PERTURBATIONS) + 1, images, 4))[..., None, None]
    bump = lambda cx, cy: np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.04)  # noqa: E731
    maps = bump(centre[..., 0, :, :], centre[..., 1, :, :]) - 0.6 * bump(centre[..., 2, :, :], centre[..., 3, :, :])
    data = xr.Dataset(
        {
            "image": (("image", "channel", "y", "x"), blob.astype(np.float32)),
            "map": (("condition", "image", "row", "col"), maps.astype(np.float32)),
            "predicted": (("condition", "image"), rng.integers(0, 10, (len(PERTURBATIONS) + 1, images))),
            "stability": (("perturbation", "image"), rng.uniform(0, 1, (len(PERTURBATIONS), images))),
        },
        coords=conditions("perturbation")
        | {"condition": ["clean", *PERTURBATIONS], "index": ("image", 7 + np.arange(images))},
        attrs={"target_site": sites[-2]},
    )
    return described(data, stability=("stability of the map", "1", "Pearson correlation of clean and perturbed map"))


def weights(traits, layer, rng) -> dict[str, xr.Dataset]:
    return {
        "singular_values": singular_values(traits, layer),
        "filters": filters(traits, layer, rng),
        "batch_norm": batch_norm(traits, layer, rng),
        "batch_norm_drift": batch_norm_drift(traits, layer, rng),
    }


def singular_values(traits, layer) -> xr.Dataset:
    depth, level = layer["depth"][1], np.linspace(0, 1, 64) ** 2
    fatness = (1.0 if traits[1] > 0 else 2.0) + depth
    normalized = (1 - level) ** fatness[:, None]
    norm = 3.0 + depth * (5 if traits[1] > 0 else 2)
    entropy = -np.log(normalized.clip(1e-9) / normalized.sum(1, keepdims=True)) * normalized
    return described(
        xr.Dataset(
            {
                "normalized": (("layer", "level"), normalized),
                "operator_norm": ("layer", norm),
                "operator_norm_upper": ("layer", 1.01 * norm),
                "kernel_bound": ("layer", 1.4 * norm),
                "log10_norm_product": np.log10(norm).sum(),
                "effective_rank": ("layer", np.exp(entropy.sum(1) / normalized.sum(1))),
                "stable_rank": ("layer", (normalized**2).sum(1)),
                "frobenius": ("layer", norm * np.sqrt((normalized**2).sum(1))),
                "density_error": ("layer", np.zeros(len(depth))),
                "median_normalized": ("layer", np.median(normalized, 1)),
                "count": ("layer", np.full(len(depth), 64)),
                "method": ("layer", ["circular"] * len(depth)),
                "padding": ("layer", ["circular"] * len(depth)),
                "input_size": ("layer", ["32x32"] * len(depth)),
                "output_size": ("layer", ["32x32"] * len(depth)),
                "note": ("layer", [""] * len(depth)),
            },
            coords=layer | {"level": level},
        ),
        operator_norm=("operator norm", "1", "largest singular value"),
        median_normalized=("median singular value / largest", "1", "median of the normalised values"),
    )


def filters(traits, layer, rng) -> xr.Dataset:
    depth = layer["depth"][1]
    values = np.clip(0.64 - (0.0 if traits[1] > 0 else 0.4) * (1 - depth)[:, None] ** 3, 0, 1)
    values = np.clip(values + 0.04 * rng.normal(size=(len(depth), 32)), 0, 1)
    values[0, 16:] = np.nan
    dead = np.arange(len(depth)) % 3
    return described(
        xr.Dataset(
            {
                "hoyer_filter": (("layer", "filter"), values),
                "hoyer": ("layer", np.nanmean(values, 1)),
                "hoyer_interval": (("layer", "bound"), np.nanmean(values, 1)[:, None] + [-0.01, 0.01]),
                "hoyer_median": ("layer", np.nanmedian(values, 1)),
                "hoyer_median_interval": (("layer", "bound"), np.nanmedian(values, 1)[:, None] + [-0.01, 0.01]),
                "filters": ("layer", np.isfinite(values).sum(1)),
                "elements": ("layer", np.full(len(depth), 144)),
                "batch_norm": ("layer", [""] * len(depth)),
                "dead": ("layer", dead),
                "dead_weights": ("layer", dead // 2),
                "dead_batch_norm": ("layer", dead - dead // 2),
                "note": ("layer", [""] * len(depth)),
            },
            coords=layer,
        ),
        hoyer=("squared Hoyer ratio of the filters", "1", "mean over live filters of h(w)"),
        hoyer_filter=("squared Hoyer ratio of the filter", "1", "h(w)"),
    )


def batch_norm(traits, layer, rng) -> xr.Dataset:
    shape = (len(layer["depth"][1]), 32)
    normal, scale = rng.normal(size=shape), 1.0 if traits[1] > 0 else 0.5
    quantities = {
        "running_mean": scale * normal,
        "running_variance": scale * np.exp(normal),
        "gamma": 1 + 0.1 * normal,
        "beta": np.where(np.arange(shape[0])[:, None] == 1, np.nan, 0.2 * normal),
    }
    data = xr.Dataset({name: (("layer", "channel"), values) for name, values in quantities.items()}, coords=layer)
    each = {name: ("layer", np.full(shape[0], value)) for name, value in (("channels", 32), ("constant", 0))}
    gain = np.abs(data["gamma"] / data["running_variance"] ** 0.5).max("channel")
    facts = each | {"gain": gain, "epsilon": ("layer", np.full(shape[0], 1e-5)), "note": ("layer", [""] * shape[0])}
    return described(data.assign(facts))


def batch_norm_drift(traits, layer, rng) -> xr.Dataset:
    level = np.array([0.05, *strength()])[:, None] * (1 if traits[1] > 0 else 0.4) * (0.2 + layer["depth"][1])
    quantities = {"mean_shift": level, "log_variance_ratio": 0.8 * level, "symmetric_kl": level**2}
    intervals = {f"{name}_interval": values[..., None] * np.array([0.9, 1.1]) for name, values in quantities.items()}
    return described(
        xr.Dataset(
            {name: (("condition", "layer"), values) for name, values in quantities.items()}
            | {name: (("condition", "layer", "bound"), values) for name, values in intervals.items()}
            | {"rows": ("layer", np.full(level.shape[1], 1000))},
            coords=conditions("condition") | layer,
        )
    )


def preflight(models) -> xr.Dataset:
    rows = [
        (
            "warning",
            "gradients vanish",
            "12 % of input gradients are exactly zero",
            "check for masked gradients",
            model,
        )
        for model in models[-1:]
    ]
    columns = zip(*rows, strict=True) if rows else [()] * 5
    names = ("severity", "check", "evidence", "remedy", "model")
    return xr.Dataset(
        {
            name: ("finding", np.array(list(column), dtype=object).astype(str))
            for name, column in zip(names, columns, strict=True)
        }
    )


def provenance(models, images, seed) -> dict:
    return {
        "complete": True,
        "data": {"name": "synthetic", "split": "test", "samples": images, "shape": [3, 32, 32], "hash": "0" * 64},
        "images": dict.fromkeys(models, images),
        "models": {model: {"sha256": "a" * 64, "source": {"checkpoint": f"{model}.pt"}} for model in models},
        "run": {"preflight": True, "batch_size": None},
        "settings": {"seed": seed, "metrics": ["PSR(at='output')", "Hoyer(at='output')"]},
        "versions": {"netprobe-torch": "0.1.0", "torch": "2.11.0"},
    }

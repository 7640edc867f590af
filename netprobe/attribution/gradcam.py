"""Grad-CAM through captum: where the evidence for a class lies, and whether a perturbation moves it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.functional import interpolate

from netprobe.attribution.feature_maps import (
    Grid,
    Layout,
    candidate_maps,
    effective,
    layouts,
    named_site,
    rerouted,
    size_of,
)
from netprobe.attribution.redrawn import last_weight_redrawn
from netprobe.data import Data, stratified
from netprobe.errors import NetprobeError, unknown
from netprobe.guard import full_precision, undisturbed
from netprobe.outputs import logits_of
from netprobe.perturb import ImageGenerator, apply, eps_of, family, resolve
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import stream_seed
from netprobe.sites import Site, find_sites

BATCH = 16  # images at once: bounds memory, changes no result

Forward = Callable[[Tensor], object]
Perturbations = Mapping[str, str | Callable[..., Tensor]]


def grad_cam(
    model: nn.Module,
    data: Data | Tensor,
    *,
    target: str | int | Sequence[int] | Tensor = "predicted",
    layer: str | nn.Module | None = None,
    perturbations: Perturbations | None = None,
    limit: int = 8,
    seed: int = 0,
    grid: Grid | None = None,
    controls: int = 0,
) -> xr.Dataset:
    """Signed Grad-CAM maps of a few images, clean and perturbed, and how far perturbing rearranges them.

    map_ij = sum_k a_k A_kij with a_k = mean_ij d y_c / d A_kij, where A (C, H, W) is the output of the
    target layer and y_c the logit of the explained class c, the same class in every condition. Signs are
    kept: a negative place speaks against c. Maps are enlarged bilinearly to the size of the image.

    stability = Spearman's rank correlation, over the H x W places before enlarging, between the signed maps
    of an image and of its perturbed version. control = the same between the maps before and after the last
    weight matrix of the model is drawn anew.

    Parameters
    ----------
    model : a classifier with convolutional maps, channels-last maps or tokens (N, T, D)
    data : a `Data`, of which `limit` samples are taken with every class keeping its share, or a tensor of
        inputs, of which the first `limit` are
    target : the class to explain: "predicted" (for the clean image), "true", one class, or one an image
    layer : a site's name, a module's path or the module; None takes the last feature map that the scores
        depend on. In a transformer that reads its class token that is the norm before the last attention
    perturbations : name -> callable (model, x, y, *, generator) -> x', or a spec such as "pgd:eps=8/255";
        without labels, y is the clean prediction
    seed : of the choice of images, of the perturbations and of the controls
    grid : (height, width) of the tokens, where it cannot be told from the model
    controls : how often to draw the last weight matrix anew, normal, with the variance it has

    Returns
    -------
    `image` (image, channel, y, x) the inputs; `map` (condition, image, row, col) in logits; `predicted`
    (condition, image); `target` (image); `stability` (perturbation, image) and `control` (draw, image) in
    [-1, 1], NaN where a map is constant; coordinate `index` (image), the positions in `data`. attrs say
    which layer and why: `target_site`, `target_reason`, `grid`.
    A stability of 1 says that the places keep their order, neither that the prediction is kept nor that the
    map is faithful: a map that ignores the model is perfectly stable. Its control gives it away by being near
    1; that of a map which shows what the model learned is near 0.

    Notes
    -----
    Cost: a forward and a backward pass for each image, condition and control, besides the perturbations. The
    model is left as found. Raises NetprobeError for an unknown layer, one without a map, one on which the
    scores do not depend, and classes that the model does not have.

    References
    ----------
    Selvaraju et al., ICCV 2017, equations 1 and 2, without the ReLU. Control: Adebayo et al., NeurIPS 2018.

    >>> import netprobe as npb
    >>> found = npb.grad_cam(npb.load("digits_cnn"), npb.data.load("digits", limit=20), limit=2)
    >>> dict(found["map"].sizes), found.attrs["target_site"]
    ({'condition': 1, 'image': 2, 'row': 8, 'col': 8}, 'relu5')
    """
    conditions = _conditions(perturbations)
    x, labels, index = _sample(data, limit, seed)
    with undisturbed(model), full_precision(), torch.inference_mode(False):
        x, labels = _placed(model, x, labels)
        sites = find_sites(model, x)
        logits = torch.cat([predict(model, part) for part in x.split(BATCH)])
        classes = _target(target, logits, labels)
        layout, reason = _choose(model, sites, x[:2], classes[:2], layer, grid)
        explain = partial(_explain, model, layout=layout, classes=classes)
        y = logits.argmax(1) if labels is None else labels
        perturbed = (_perturbed(p, model, x, y, index, stream_seed(seed, name)) for name, p in conditions.items())
        explained = [explain(inputs) for inputs in (x, *perturbed)]
        drawn_anew = last_weight_redrawn(model, sites, controls, seed) if controls else ()
        redrawn = [explain(x, forward=forward).maps for forward in drawn_anew]
    results = _labelled(x, explained, redrawn, conditions)
    results["target"] = "image", classes.numpy(force=True)
    if labels is not None:
        results["label"] = "image", labels.numpy(force=True)
    where = {
        "target_site": layout.site.name,
        "target_reason": reason,
        "grid": f"{layout.height}x{layout.width}",
    }
    return _defined(results.assign_coords(index=("image", index.numpy())).assign_attrs(where))


def map_similarity(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of maps and others, image by image: (N, H, W) twice -> (N,) in [-1, 1].

    Equal values share their mean rank; NaN where either map is constant.
    """
    ranks = [rankdata(m.reshape(len(m), -1), axis=1) for m in (maps, others)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.full(len(a), np.nan), where=scale > 0)


def _conditions(perturbations: Perturbations | None) -> dict[str, Callable[..., Tensor]]:
    perturbations = {} if perturbations is None else perturbations
    if not isinstance(perturbations, Mapping) or "clean" in perturbations:
        raise NetprobeError(
            f"perturbations={perturbations!r} must map names, other than 'clean', to perturbations, "
            "such as {'pgd': PGD(eps=8/255)}"
        )
    return {name: resolve(perturbation) for name, perturbation in perturbations.items()}


def _sample(data: Data | Tensor, limit: int, seed: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Inputs, labels (None for a bare tensor) and positions of the images to explain."""
    if limit < 1:
        raise NetprobeError(f"limit={limit} leaves no image to explain: it must be at least 1")
    if isinstance(data, Tensor):
        return data.detach()[:limit], None, torch.arange(len(data))[:limit]
    index = torch.from_numpy(stratified(data.labels.numpy(), min(limit, len(data)), seed))
    chosen = data.select(index)
    return chosen.inputs, chosen.labels, index


def _placed(model: nn.Module, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both on the device of the model, x as a copy in its precision: autograd takes none from inference mode."""
    held = next((t for t in itertools.chain(model.parameters(), model.buffers()) if t.is_floating_point()), x)
    return x.to(held, copy=True), labels if labels is None else labels.to(held.device)


def _target(target: str | int | Sequence[int] | Tensor, logits: Tensor, labels: Tensor | None) -> Tensor:
    """The class that is explained for each image, (N,)."""
    named = {"predicted": logits.argmax(1)} | ({} if labels is None else {"true": labels})
    if isinstance(target, str) and target not in named:
        raise unknown("target", target, named, 'Or give class numbers; "true" needs data with labels.')
    classes = named[target] if isinstance(target, str) else torch.as_tensor(target, device=logits.device)
    count, known = logits.shape
    fits = classes.dtype == torch.int64 and classes.shape in ((), (count,))
    if not fits or classes.min() < 0 or classes.max() >= known:
        raise NetprobeError(
            f"target={target!r} must be whole numbers from 0 to {known - 1}: one, or one for each of the {count} images"
        )
    return classes.expand(count)


def _choose(
    model: nn.Module,
    sites: Sequence[Site],
    x: Tensor,
    classes: Tensor,
    layer: str | nn.Module | None,
    grid: Grid | None,
) -> tuple[Layout, str]:
    """Where to look, and why there; the few images of x tell on which maps the scores depend."""
    maps = layouts(sites, size_of(x), grid)
    candidates, reason = candidate_maps(maps), "the last feature map on which the explained scores depend"
    if layer is not None:
        candidates, reason = [_named(maps, named_site(model, sites, layer))], "asked for"
    if felt := effective(model, candidates, partial(_scores, model, x, classes)):
        return felt[-1], reason
    # A last weight of zeros, as torchvision's untrained ViT has, hides on what the scores would depend.
    (redrawn,) = last_weight_redrawn(model, sites, times=1)
    if felt := effective(model, candidates, partial(_scores, redrawn, x, classes)):
        return felt[-1], f"{reason} with another last weight matrix; with this one they depend on none"
    looked_at = ", ".join(layout.site.name for layout in candidates[-4:]) or "none"
    raise NetprobeError(
        f"the scores of {type(model).__name__} depend on no feature map (looked at: {looked_at}) for inputs of "
        f"shape {tuple(x.shape[1:])}: name another layer by layer=; behind the last attention of a "
        "transformer only its class token counts. If its tokens were not recognised as a grid, give "
        "grid=(height, width)"
    )


def _named(maps: Sequence[Layout], site: Site) -> Layout:
    for layout in maps:
        if layout.site == site:
            return layout
    raise NetprobeError(
        f"the output of {site.name!r}, {site.shape} for one input, is no map of more than one place: take "
        f"another layer, such as {maps[-1].site.name if maps else None!r}, or, if these are tokens, say how "
        "they are arranged with grid=(height, width)"
    )


def _scores(forward: Forward, x: Tensor, classes: Tensor) -> Tensor:
    return logits_of(forward(x), len(x)).gather(1, classes[:, None]).squeeze(1)


def _perturbed(perturbation: Callable, model: nn.Module, x: Tensor, y: Tensor, index: Tensor, seed: int) -> Tensor:
    """x', with the random numbers that `probe` draws for these images with the same seed."""
    torch.manual_seed(seed)  # for callables that draw from the global state
    parts = zip(x.split(BATCH), y.split(BATCH), index.split(BATCH), strict=True)
    return torch.cat([apply(perturbation, model, x, y, generator=ImageGenerator(seed, i)) for x, y, i in parts])


class _Explained(NamedTuple):
    maps: np.ndarray  # (N, H, W), as large as the layer's
    predictions: np.ndarray  # (N,)


def _explain(
    model: nn.Module, x: Tensor, layout: Layout, classes: Tensor, forward: Forward | None = None
) -> _Explained:
    """captum's Grad-CAM at a tap through which the layer's map is led: captum sees (N, C, H, W) only.

    `forward` runs `model`, with other weights if need be.
    """
    from captum.attr import LayerGradCam

    tap, predictions = nn.Identity(), []

    def score(x: Tensor, classes: Tensor) -> Tensor:
        logits = logits_of((forward or model)(x), len(x))
        predictions.append(logits.argmax(1))
        return logits.gather(1, classes[:, None]).squeeze(1)

    with rerouted(model, [layout], lambda _, maps: tap(maps)):
        cam = LayerGradCam(score, tap)
        parts = zip(x.split(BATCH), classes.split(BATCH), strict=True)
        maps = [cam.attribute(x, additional_forward_args=c, relu_attributions=False) for x, c in parts]
    return _Explained(torch.cat(maps)[:, 0].numpy(force=True), torch.cat(predictions).numpy(force=True))


def _labelled(
    x: Tensor, explained: list[_Explained], redrawn: list[np.ndarray], conditions: Mapping[str, Callable]
) -> xr.Dataset:
    size = size_of(x)
    clean, *perturbed = (e.maps for e in explained)
    results = xr.Dataset(
        {
            "image": (("image", "channel", "y", "x"), x.reshape(len(x), -1, *size).numpy(force=True)),
            "map": (("condition", "image", "row", "col"), _enlarged([clean, *perturbed], size)),
            "predicted": (("condition", "image"), np.stack([e.predictions for e in explained])),
        },
        coords={"condition": ["clean", *conditions]},
    )
    if perturbed:
        results["stability"] = ("perturbation", "image"), _similarities(clean, perturbed)
        results = results.assign_coords(
            perturbation=list(conditions),
            family=("perturbation", [family(p) for p in conditions.values()]),
            eps=("perturbation", [eps_of(p) for p in conditions.values()]),
        )
    if redrawn:
        results["control"] = ("draw", "image"), _similarities(clean, redrawn)
    return results


def _enlarged(maps: Sequence[np.ndarray], size: Grid) -> np.ndarray:
    return interpolate(torch.from_numpy(np.stack(maps)), size, mode="bilinear").numpy()


def _similarities(maps: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([map_similarity(maps, other) for other in others])


DEFINITIONS = {  # long_name, units, definition
    "image": ("input", "1", "inputs as the model received them"),
    "map": (
        "signed Grad-CAM",
        "logit",
        "sum_k a_k A_kij, a_k = mean_ij d y_c / d A_kij, enlarged",
    ),
    "predicted": ("predicted class", "1", "class of the largest logit"),
    "target": ("explained class", "1", "class c whose logit y_c is explained, the same in every condition"),
    "label": ("true class", "1", "label in the data set"),
    "stability": (
        "map stability",
        "1",
        "Spearman correlation of clean and perturbed map over places",
    ),
    "control": ("map control", "1", "as stability, of the map and that with the last weight drawn anew"),
}


def _defined(results: xr.Dataset) -> xr.Dataset:
    for name, variable in results.data_vars.items():
        variable.attrs |= dict(zip(("long_name", "units", "definition"), DEFINITIONS[name], strict=True))
    return results

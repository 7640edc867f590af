"""What `netprobe similarity` does: one pass for all matrices, then what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netprobe.errors import NetprobeError

EXAMPLES = """\b
netprobe similarity natural=resnet18@nt.pt robust=resnet18@at.pt --data cifar10 --limit 500 --sites block -o out/
netprobe similarity runs/a/best.pt --data cifar10 --limit 500 --perturb pgd:eps=8/255,steps=20 \\
    --reference v1=neural.npy"""
LIMIT = 500
"""Images, unless told how many: matrices grow with their square."""


def similar(
    networks: Mapping[str, Any],
    images: Any,
    named: Mapping[str, Any] | None,
    references: tuple[str, ...],
    measure: str,
    centre: str,
    estimator: str,
    resamples: int,
    permutations: int,
    sites: Any,
    settings: dict[str, Any],
) -> Any:
    """Groups similarity, rsa and cka_matrix of every model."""
    import xarray as xr

    from netprobe.metrics import Similarity
    from netprobe.probing import gather
    from netprobe.representations.alignment import alignments, check_cka
    from netprobe.representations.matrices import with_pixels
    from netprobe.representations.room import require_room
    from netprobe.representations.rsa import rsa

    check_cka(estimator, None, len(images))
    matrices = {name: _loaded(path) for name, path in map(_named, references)}
    require_room(networks, images, named, sites, settings, copies=3)
    partial = gather(networks, images, named, Similarity(measure=measure, centre=centre), sites, **settings)
    tree = with_pixels(partial, images)
    compared = rsa(
        tree,
        matrices,
        resamples=resamples,
        permutations=permutations,
        seed=settings["seed"],
        progress=settings["progress"],
    )
    aligned = alignments(partial, tree, Similarity.name, estimator)
    for model in networks:
        tree[f"{model}/rsa"] = xr.DataTree(compared[model]["rsa"].to_dataset())
        tree[f"{model}/cka_matrix"] = xr.DataTree(aligned[model])
    return tree


def _named(text: str) -> tuple[str, Path]:
    name, given, path = text.partition("=")
    return (name, Path(path)) if given else (Path(text).stem, Path(text))


def _loaded(path: Path) -> Any:
    import numpy as np

    if path.suffix != ".npy" or not path.is_file():
        raise NetprobeError(f"--reference {str(path)!r}: give a .npy file that holds a matrix (image, image)")
    return np.load(path, allow_pickle=False)


def table(tree: Any) -> list[tuple[str, ...]]:
    """Of every site, clean: its correlations with the first reference."""
    rows = [("model", "site", "pearson", "spearman", "against")]
    for model in tree.children:
        if "rsa" not in tree[model].children:
            continue
        data = tree[model]["rsa"].to_dataset().sel(condition="clean").isel(other=0)
        for site in data["site"].values:
            one = data.sel(site=site)
            numbers = (f"{float(one[name]):.3f}" for name in ("pearson", "spearman"))
            rows.append((model, str(site), *numbers, str(one["other"].values)))
    return rows

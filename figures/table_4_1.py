"""Table 4.1 of Bakiskan (2022): the polarizing front end under white-box attacks, beside the published numbers.

    python figures/table_4_1.py mnist=runs/table-4-1/mnist/results.nc fashion-mnist=runs/table-4-1/fashion/results.nc

Each results.nc is that of `netprobe evaluate` on networks called `none`, `adversarial`, `polarizing` and `pixels` (the
control: quantised pixels, which the publication does not have) with attacks called `fgsm`, `bim` and `pgd`:

    netprobe evaluate none=runs/lenet/best.pt adversarial=runs/at/best.pt polarizing=runs/polarizing/best.pt \\
        pixels=runs/pixels/best.pt --data mnist --perturb fgsm:eps=0.3 --perturb bim:eps=0.3,steps=20,step_size=0.03 \\
        --perturb pgd:eps=0.3,steps=100,step_size=0.03,restarts=20 -o runs/table-4-1/mnist

Accuracies in per cent with their 95 % Wilson intervals; an image counts as right only if it stands every backward pass
that its network declares.
"""

from __future__ import annotations

import json
import sys

import xarray as xr

import netprobe as npb

CONDITIONS = ("clean", "fgsm", "bim", "pgd")
PAPER = {
    "mnist": {
        "none": (99.4, 21.9, 0.47, 0.00),
        "adversarial": (97.5, 93.1, 90.0, 86.7),
        "polarizing": (99.1, 93.2, 86.5, 70.8),
    },
    "fashion-mnist": {
        "none": (91.6, 19.7, 1.49, 0.11),
        "adversarial": (83.8, 77.9, 75.6, 74.1),
        "polarizing": (87.3, 69.4, 54.9, 44.5),
    },
}


def table(results: xr.DataTree, paper: dict[str, tuple[float, ...]]) -> list[str]:
    """A line for each network, in Markdown: ours with its interval, and the published number in brackets."""
    networks = [name for name in results.children if "evaluation" in results[name].children]
    for name in networks:
        missing = set(CONDITIONS) - set(results[name]["evaluation"]["condition"].values)
        if missing:
            sys.exit(f"{name} was not evaluated under {', '.join(sorted(missing))}: name the attacks fgsm, bim and pgd")
    lines = ["| | " + " | ".join(CONDITIONS) + " |", "|" + "---|" * (len(CONDITIONS) + 1)]
    for name in networks:
        published = paper.get(name, (None,) * len(CONDITIONS))
        cells = [_cell(results[name]["evaluation"], *pair) for pair in zip(CONDITIONS, published, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(evaluation: xr.DataTree, condition: str, published: float | None) -> str:
    here = evaluation.to_dataset().sel(condition=condition)
    low, high = 100 * here["accuracy_interval"].values
    paper = "" if published is None else f" (paper {published:g})"
    return f"{100 * float(here['accuracy']):.1f} [{low:.1f}, {high:.1f}]{paper}"


def settings(results: xr.DataTree) -> list[str]:
    """How many images, and the attacks."""
    provenance = json.loads(results.attrs["provenance"])
    lines = [f"{provenance['data']['name']}, {provenance['data']['samples']:,} images"]
    for name in CONDITIONS[1:]:
        attack = provenance["perturbations"][name]
        kept = ("eps", "steps", "step_size", "restarts", "random_start")
        shown = [f"{key}={attack[key]}" for key in kept if key in attack]
        shown.append(f"backward passes: {attack['backward'] or 'all declared'}")
        lines.append(f"{name}: {', '.join(shown)}")
    return lines


def ways(results: xr.DataTree) -> list[str]:
    """Which backward pass broke how many images, of networks that declare several."""
    lines = []
    for name in results.children:
        if "evaluation" not in results[name].children:
            continue
        broken = results[name]["evaluation"]["broken_by"].sel(condition="pgd").values.astype(str)
        counts = {way: int((broken == way).sum()) for way in dict.fromkeys(broken) if way}
        if counts:
            lines.append(f"{name}, broken by pgd: " + ", ".join(f"{way} {n}" for way, n in counts.items()))
    return lines


def main(arguments: list[str]) -> None:
    """Print a table for each DATA=results.nc."""
    for argument in arguments:
        name, _, path = argument.partition("=")
        if name not in PAPER or not path:
            sys.exit(f"cannot read {argument!r}: give DATA=results.nc with DATA one of {', '.join(PAPER)}")
        results = npb.open_results(path)
        rows = table(results, PAPER[name])
        print(*settings(results), "", *rows, "", *ways(results), "", sep="\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])

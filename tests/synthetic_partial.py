"""What `npb.training.partial.sweep` gives for one network, from smooth curves instead of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from netprobe.training.partial.codes import Code, parse_codes
from netprobe.training.partial.dataset import assembled
from netprobe.training.partial.layers import Layer
from netprobe.training.partial.units import Cell, Unit

CODES = "A1N2,N1A2,A2N1,N2A1,A1A2,N2A1_l,A2N1_l"
IMAGES = 200


def partial_training(fragile: bool, layers: Sequence[str], seeds: Sequence[int] = (0, 1, 2)) -> xr.Dataset:
    """Every code at every interior cutoff; N1A2 fails with many natural early layers, and once without a number."""
    sizes = [Layer(name, name, "Linear" if at else "Conv2d", 100 * 2 ** min(at, 20)) for at, name in enumerate(layers)]
    cutoffs = range(len(layers))

    def result(unit: Unit) -> dict[str, Any] | None:
        if not isinstance(unit, Cell):
            share = float(unit.training == "adversarial")
        elif unit.cutoff == 0 and not unit.code.single:
            return None
        elif unit.code.name == "N1A2" and unit.cutoff > 0.7 * len(layers):
            return _numbers(0.1, 0.1, 2.3) if unit.seed else {"images": 0}
        else:
            share = _share(unit.code, unit.cutoff, len(layers))
        noise = np.random.default_rng(unit.seed).normal(scale=0.01)
        return _numbers(0.95 - 0.15 * share + noise, (0.3 + 0.1 * fragile) * share + noise, 6.0 - 4.5 * share + noise)

    return assembled(parse_codes(CODES), cutoffs, seeds, sizes, 0.1, result)


def _share(code: Code, cutoff: int, layers: int) -> float:
    """Adversarial layers, early ones counting more."""
    weights = 0.8 ** np.arange(layers)
    return float(weights[code.adversarial(cutoff, layers)].sum() / weights.sum())


def _numbers(clean: float, adversarial: float, loss: float) -> dict[str, Any]:
    right = {"clean_correct": round(clean * IMAGES), "adversarial_correct": round(max(adversarial, 0) * IMAGES)}
    losses = {"clean_loss": 0.2, "clean_loss_interval": [0.1, 0.3]}
    return {"images": IMAGES, **right, **losses, "adversarial_loss": loss, "adversarial_loss_interval": [loss, loss]}

"""The demo, shortened: the whole way from training to the report."""

from __future__ import annotations

import numpy as np
import pytest

from netprobe import demo
from netprobe.store import open_results


@pytest.mark.slow  # the first command of the README is the demo at full length
def test_the_demo_shows_what_adversarial_training_does(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "RECIPE", demo.RECIPE.with_settings(epochs=6))
    tree = demo.demo(tmp_path, progress=False)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert open_results(tmp_path / "results.nc").identical(tree)
    natural, robust = (
        tree[name]["psr"]["psr_db_interval"].sel(perturbation="pgd", norm="2") for name in ("natural", "robust")
    )
    late = slice(-2, None)
    assert np.all(robust.sel(bound="high")[late] < natural.sel(bound="low")[late])
    assert {"gradcam", "accuracy", "hoyer"} <= set(tree["natural"].children)

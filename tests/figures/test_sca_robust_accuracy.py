"""The script trains the layer and its controls, attacks them, and prints means over seeds."""

import pytest
from scipy import stats

import netprobe as npb

RUN = ("--data", "digits", "--train-limit", 60, "--limit", 20, "--correlated", 20)
SMALL = ("--width", 8, "--steps", 2, "--epochs", 1, "--attack-steps", 2, "--batch-size", 20)


def test_means_over_seeds_with_t_intervals(printed, tmp_path):
    text = printed("sca_robust_accuracy.py", *RUN, *SMALL, "--seeds", 2, "-o", tmp_path)
    results, shifts = npb.open_results(tmp_path / "results.nc"), npb.open_results(tmp_path / "correlation.nc")
    assert set(results.children) >= {f"{name} {seed}" for name in ("MLP", "T=0", "SCA") for seed in (0, 1)}
    first, second = (100 * float(results[f"SCA {seed}/evaluation/accuracy"][0]) for seed in (0, 1))
    reach = stats.t.ppf(0.975, 1) * abs(first - second) / 2
    mean = (first + second) / 2
    assert f"| SCA | {mean:.3g} [{mean - reach:.3g}, {mean + reach:.3g}] | " in text
    d = [float(shifts[f"MLP {seed}/correlation/shift"].isel(site=-1)[-1]) for seed in (0, 1)]
    (line,) = (line for line in text.splitlines() if line.startswith("| MLP, D(eps) | "))
    assert float(line.split("|")[-2].split()[0]) == pytest.approx(sum(d) / 2, rel=1e-2)


def test_one_seed_has_wilson_intervals(printed, tmp_path):
    text = printed("sca_robust_accuracy.py", *RUN, *SMALL, "--seeds", 1, "-o", tmp_path)
    evaluation = npb.open_results(tmp_path / "results.nc")["T=0 0/evaluation"]
    low, high = 100 * evaluation["accuracy_interval"].values[0]
    assert f"| T=0 | {100 * float(evaluation['accuracy'][0]):.3g} [{low:.3g}, {high:.3g}]" in text

"""The script trains the layer and its controls, attacks them, and prints means over seeds."""

import numpy as np
import pytest
from scipy import stats
from scipy.io import wavfile

import netprobe as npb

RUN = ("--data", "digits", "--train-limit", 60, "--limit", 20, "--correlated", 20)
SMALL = ("--width", 8, "--steps", 2, "--epochs", 1, "--attack-steps", 2, "--batch-size", 20)


def test_means_over_seeds_with_t_intervals(printed, tmp_path):
    text = printed("sca_tab_1_robust_accuracy.py", *RUN, *SMALL, "--seeds", 2, "-o", tmp_path)
    results = npb.open_results(tmp_path / "results.nc")
    assert set(results.children) >= {f"{name} {seed}" for name in ("MLP", "T=0", "T=2") for seed in (0, 1)}
    first, second = (100 * float(results[f"T=2 {seed}/evaluation/accuracy"][0]) for seed in (0, 1))
    reach = stats.t.ppf(0.975, 1) * abs(first - second) / 2
    mean = (first + second) / 2
    assert f"| T=2 | {mean:.3g} [{mean - reach:.3g}, {mean + reach:.3g}] | " in text
    d = [float(results[f"MLP {seed}/correlation/shift"].isel(site=-1)[-1]) for seed in (0, 1)]
    (line,) = (line for line in text.splitlines() if line.startswith("| MLP, D(eps) | "))
    assert float(line.split("|")[-2].split()[0]) == pytest.approx(sum(d) / 2, rel=1e-2)


def test_one_seed_has_wilson_intervals(printed, tmp_path):
    text = printed("sca_tab_1_robust_accuracy.py", *RUN, *SMALL, "--seeds", 1, "-o", tmp_path)
    evaluation = npb.open_results(tmp_path / "results.nc")["T=0 0/evaluation"]
    low, high = 100 * evaluation["accuracy_interval"].values[0]
    assert f"| T=0 | {100 * float(evaluation['accuracy'][0]):.3g} [{low:.3g}, {high:.3g}]" in text


def test_several_numbers_of_steps(printed, tmp_path):
    printed("sca_tab_1_robust_accuracy.py", *RUN, *SMALL, "--steps", "1,3", "--seeds", 1, "-o", tmp_path / "out")
    results = npb.open_results(tmp_path / "out" / "results.nc")
    assert {name.split()[0] for name in results.children if name.endswith(" 0")} == {"MLP", "T=0", "T=1", "T=3"}


def test_words_of_unequal_length(printed, tmp_path):
    generator = np.random.default_rng(0)
    for folder in ("train/yes", "train/no", "test/yes", "test/no"):
        (tmp_path / "words" / folder).mkdir(parents=True)
        for number in range(8):
            waves = generator.integers(-9000, 9000, 900 + number).astype(np.int16)
            wavfile.write(tmp_path / "words" / folder / f"{number}.wav", 8000, waves)
    words = ("--data", tmp_path / "words", "--length", 900, "--correlated", 16)
    text = printed("sca_tab_1_robust_accuracy.py", *words, *SMALL, "--seeds", 1, "-o", tmp_path / "out")
    assert "16 images" in text and "| | clean | 5e-05 | 0.0001 | " in text

"""The script trains the networks and the control, measures each, and prints means over seeds."""

import pytest
from scipy import stats

import netprobe as npb

LOCAL = "krotov-hopfield:local_lr=0.1,local_epochs=40,local_batch=20,converged=0.1,winning=0.1"
RUN = ("--data", "digits", "--train-limit", 200, "--limit", 40, "--walked", 6, "--hidden", 20, "--local", LOCAL)
SMALL = ("--decoder-epochs", 2, "--epochs", 2, "--batch-size", 50)


def row(text, name):
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} | "))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_one_seed_has_intervals_over_images(printed, tmp_path):
    run = (*RUN, *SMALL, "--seeds", 1, "--kinds", "KH,untrained,JReg", "-o", tmp_path)
    text = printed("kh_tab_smoothness.py", *run)
    kept = npb.open_results(tmp_path / "KH-0.nc")
    low, high = 100 * kept["accuracy/accuracy_interval"].values[0]
    assert row(text, "KH")[0] == f"{100 * float(kept['accuracy/accuracy'][0]):.3g} [{low:.3g}, {high:.3g}]"
    assert npb.load(tmp_path / "untrained-0" / "last.pt").hidden is not None
    assert "(paper" not in text and len(row(text, "JReg")) == 7
    before = (tmp_path / "KH-0.nc").stat().st_mtime_ns
    assert printed("kh_tab_smoothness.py", *run) == text and (tmp_path / "KH-0.nc").stat().st_mtime_ns == before


def test_several_seeds_have_t_intervals(printed, tmp_path):
    text = printed("kh_tab_smoothness.py", *RUN, *SMALL, "--seeds", 2, "--kinds", "BP", "-o", tmp_path)
    norms = [
        float(npb.open_results(tmp_path / f"BP-{seed}.nc")["jacobians/mean_frobenius"].squeeze()) for seed in (0, 1)
    ]
    reach = stats.t.ppf(0.975, 1) * abs(norms[0] - norms[1]) / 2
    mean, low, high = (
        float(part) for part in row(text, "BP")[-1].replace("[", "").replace("]", "").replace(",", "").split()
    )
    assert (mean, low, high) == pytest.approx(
        (sum(norms) / 2, sum(norms) / 2 - reach, sum(norms) / 2 + reach), rel=1e-2
    )

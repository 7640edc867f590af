"""Evaluations that are killed or interrupted keep what is done, and end with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluating_helpers import PERTURBATIONS, small, two_models
from tiny import assert_same, images

from netprobe.evaluation import Interrupted
from netprobe.store import save_results

SCRIPT = """
import os, sys, time
sys.path[:0] = {paths!r}
import torch
torch.set_num_threads(1)
from evaluating_helpers import small, two_models
from netprobe.cli.evaluate import saved
from netprobe.store.fingerprint import fingerprint
from tiny import images

def slow(model, x, y, *, generator):
    time.sleep(0.02)
    return (x + 0.1 * torch.rand(x.shape, generator=generator)).clamp(0, 1)

def evaluate(folder):
    perturbations = {{"pgd": "pgd:eps=0.1,steps=4", "slow": slow}}
    model = {{"one": two_models()["one"]}}
    saved(small(perturbations, model, images(16), chunk=2, doubts=True, probe_images=4, folder=folder), folder)

fingerprint(two_models())  # what is read and parsed once in a process
for folder in map(str.strip, sys.stdin):
    pid = os.fork()
    if not pid:
        evaluate(folder)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
KILLS = 10


class Forking:
    """A process that has imported and read everything, and forks an evaluation for every folder that it is told."""

    def __init__(self, path: Path) -> None:
        here = Path(__file__).parent
        path.write_text(SCRIPT.format(paths=[str(here), str(here.parent)]))
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def start(self, folder: Path) -> int:
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """How the last one ended."""
        return int(self.process.stdout.readline())


@pytest.fixture
def forking(tmp_path):
    started = Forking(tmp_path / "forking_script.py")
    with started.process:
        yield started
        started.process.stdin.close()


def units(folder: Path) -> int:
    """How many pieces of an evaluation are on disk."""
    return len(list((folder / "units").glob("*.npz")))


def wait_for(wanted: int, folder: Path, seconds: float = 300) -> None:
    """Until so many pieces are done: what a slow machine makes of a fixed sleep is no test of anything."""
    began = time.monotonic()
    while units(folder) < wanted:
        assert time.monotonic() - began < seconds, f"{units(folder)} of {wanted} units after {seconds} s"
        time.sleep(0.001)


def test_killed_ten_times_it_ends_with_the_same_bytes(forking, tmp_path):
    """At random moments of its work, in the attacks of the doubts too: SIGKILL leaves no chance to tidy up."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    forking.start(whole)
    assert forking.end() == 0
    rng = random.Random(0)
    moments = [0, *sorted(rng.sample(range(1, units(whole) * 3 // 4), KILLS - 1))]
    for moment in moments:
        child = forking.start(killed)
        wait_for(moment, killed)
        time.sleep(rng.uniform(0, 0.02))  # anywhere within a unit, in the writing of its file too
        os.kill(child, signal.SIGKILL)
        assert forking.end() == -signal.SIGKILL, "it was done before it was killed often enough"
    forking.start(killed)
    assert forking.end() == 0
    assert units(killed) == units(whole)
    assert (whole / "results.nc").read_bytes() == (killed / "results.nc").read_bytes()


CALLS: list[int] = []
STOP_AT: list[int] = []


def counted(model, x, y, *, generator):
    """A perturbation that counts its calls, and presses Ctrl-C at the one that STOP_AT names."""
    CALLS.append(len(x))
    if len(CALLS) in STOP_AT:
        raise KeyboardInterrupt
    return (x + 0.1 * torch.rand(x.shape, generator=generator)).clamp(0, 1)


@pytest.fixture(autouse=True)
def uncounted():
    CALLS.clear(), STOP_AT.clear()


def without_timing(tree):
    kept = tree.copy()
    del kept["timing"]
    return kept


def test_ctrl_c_keeps_what_is_done_and_the_same_call_goes_on(tmp_path):
    whole = without_timing(small({"fgsm": "fgsm:eps=0.1", "counted": counted}))
    CALLS.clear(), STOP_AT.append(2)
    with pytest.raises(Interrupted) as caught:
        small({"fgsm": "fgsm:eps=0.1", "counted": counted}, folder=tmp_path)
    part = caught.value.results
    assert part["one/evaluation/correct"].sel(condition="fgsm").min() >= 0
    done = part["one/evaluation/correct"].sel(condition="counted").values >= 0
    assert done.sum() == 6 and '"complete": false' in part.attrs["provenance"]  # the first of four chunks
    assert part["one/evaluation/images"].sel(condition="counted") == 6
    np.testing.assert_array_equal(part["other/evaluation/images"], 0)
    assert np.isnan(part["other/evaluation/accuracy"]).all()
    save_results(part, tmp_path / "part.nc")  # readable
    CALLS.clear(), STOP_AT.clear()
    assert_same(without_timing(small({"fgsm": "fgsm:eps=0.1", "counted": counted}, folder=tmp_path)), whole)
    assert len(CALLS) == 3 + 4  # what was left of the first model, and the second


def test_another_attack_computes_that_one_alone(tmp_path):
    small({"counted": counted}, folder=tmp_path)
    assert len(CALLS) == 2 * 4  # two models, four chunks
    both = without_timing(small({"pgd": PERTURBATIONS["pgd"], "counted": counted}, folder=tmp_path))
    assert len(CALLS) == 2 * 4
    assert_same(both, without_timing(small({"pgd": PERTURBATIONS["pgd"], "counted": counted})))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"chunk": 5},
        {"batch_size": 3},
        {"data": images(20, seed=1)},
        {"models": {"one": two_models()["other"]}},
        {"models": {"one": torch.nn.Sequential(two_models()["one"])}},
    ],
)
def test_whatever_changes_results_is_computed_again(tmp_path, change):
    small({"counted": counted}, models={"one": two_models()["one"]}, folder=tmp_path)
    before = len(CALLS)
    settings = {"models": {"one": two_models()["one"]}, **change}
    small({"counted": counted}, folder=tmp_path, **settings)
    assert len(CALLS) > before


def test_a_damaged_unit_is_computed_again(tmp_path, caplog):
    whole = without_timing(small({"counted": counted}, folder=tmp_path))
    units = sorted((tmp_path / "units").glob("*.npz"))
    units[0].write_bytes(units[0].read_bytes()[:100])
    units[1].write_bytes(b"")
    assert_same(without_timing(small({"counted": counted}, folder=tmp_path)), whole)
    assert caplog.text.count("is damaged") == 2


def test_what_killed_processes_left_is_cleared_away(tmp_path):
    (tmp_path / "units").mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, living = (tmp_path / "units" / f".abc.npz.part{pid}" for pid in (dead.pid, os.getpid()))
    left.touch(), living.touch()
    small({"fgsm": "fgsm:eps=0.1"}, folder=tmp_path)
    assert not left.exists() and living.exists()


def test_shards_that_share_a_folder_make_one_evaluation(tmp_path):
    whole = without_timing(small({"counted": counted}))
    CALLS.clear()
    first = small({"counted": counted}, folder=tmp_path, shard="0/2")
    assert '"complete": false' in first.attrs["provenance"] and len(CALLS) == 2 * 2
    last = without_timing(small({"counted": counted}, folder=tmp_path, shard="1/2"))
    assert len(CALLS) == 2 * 4  # nothing twice
    for path in ("one/evaluation", "other/evaluation", "comparison"):
        assert last[path].to_dataset().drop_attrs().identical(whole[path].to_dataset().drop_attrs())


def test_a_folder_that_cannot_be_written_is_an_error_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot keep results in"):
        small({"counted": counted}, folder=tmp_path / "file")
    assert not CALLS

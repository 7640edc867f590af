"""Sweeps that are killed, shared between processes, extended or wrong."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from partial_helpers import QUICK, assert_identical, digits, small_grid, small_sweep, tiny_net

from netprobe.defenses import Natural
from netprobe.errors import NetprobeError
from netprobe.training import Diverged
from netprobe.training.partial import sweeping
from netprobe.training.partial.claims import claim
from netprobe.training.partial.planning import grid_of
from netprobe.training.partial.records import write_record
from netprobe.training.partial.study import Study
from netprobe.training.partial.sweeping import Interrupted, run, sweep
from netprobe.uncertainty import wilson

SCRIPT = """
import os, signal, sys
sys.path[:0] = {paths!r}
import torch
from partial_helpers import small_sweep
from netprobe.training.loop import Loop
from netprobe.training.partial import study

left = [0]

def alive_for_one_more(call):
    def counted(*args, **kwargs):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return counted

def noted(self, unit, compute=study.Study.compute):
    compute(self, unit)
    with open(self.folder / "log", "a") as log:
        log.write(f"{{unit.label}} {{os.getpid()}}\\n")

Loop._step = alive_for_one_more(Loop._step)
Loop._close_epoch = alive_for_one_more(Loop._close_epoch)
study.write_record = alive_for_one_more(study.write_record)
study.Study.compute = noted

for line in sys.stdin:
    left[0], folder = int(line.split()[0]), line.split()[1]
    pid = os.fork()
    if not pid:
        small_sweep(folder, "A1N2,N2A1")
        os._exit(0)
    print(pid, flush=True)
"""
UNITS = 6


class Forking:
    """A process that has imported everything, and forks a sweep of its own for every folder it is told."""

    def __init__(self, path: Path) -> None:
        path.write_text(SCRIPT.format(paths=[str(Path(__file__).parent)]))
        self.process = subprocess.Popen(
            [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: Path, lasts: int = 0) -> int:
        """The number of the process; it dies before its `lasts`-th step, end of an epoch or result; 0: never."""
        self.process.stdin.write(f"{lasts} {folder}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


def running(child: int) -> bool:
    """Whether a process, of which we are not the parent, is neither gone nor a zombie."""
    try:
        return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait(child: int) -> None:
    deadline = time.monotonic() + 120
    while running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def forking(tmp_path_factory):
    started = Forking(tmp_path_factory.mktemp("script") / "forking_sweep.py")
    with started.process:
        yield started
        started.process.stdin.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of an undisturbed sweep."""
    return small_sweep(tmp_path_factory.mktemp("whole"), "A1N2,N2A1")


def results_in(folder: Path):
    """What is kept there, with nothing computed."""
    return small_grid(folder, "A1N2,N2A1").results()


def log_of(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def test_killed_again_and_again_it_ends_with_the_same_numbers(forking, whole, tmp_path):
    """SIGKILL in training, between epochs and before a result is written: all that was finished is kept."""
    rng, done, kills = random.Random(0), [0], 0
    while done[-1] < UNITS:
        wait(forking.start(tmp_path, rng.randrange(5, 13)))
        done.append(len(list(tmp_path.glob("cells/*.json"))))
        kills += done[-1] < UNITS
        assert kills < 30
    assert kills >= 3 and done == sorted(done)
    assert_identical(results_in(tmp_path), whole)


def test_two_processes_share_the_work(forking, whole, tmp_path):
    """Every unit is computed once, by one of the two, and the results are those of one process alone."""
    for child in [forking.start(tmp_path) for _ in range(2)]:
        wait(child)
    log = log_of(tmp_path)
    assert len(log) == UNITS == len({label for label, _ in log})
    assert len({process for _, process in log}) == 2
    assert_identical(results_in(tmp_path), whole)


def test_a_claim_is_exclusive_and_ends_with_its_process(tmp_path):
    path = tmp_path / "claims" / "unit"
    with claim(path) as ours, claim(path) as theirs:
        assert ours and not theirs
    holding = f"import time, fcntl; file = open({str(path)!r}, 'a'); fcntl.flock(file, fcntl.LOCK_EX)"
    command = [sys.executable, "-c", f"{holding}; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with claim(path) as ours:
            assert not ours
        process.kill()
        process.wait()
        with claim(path) as ours:
            assert ours


def test_a_unit_that_another_process_is_at_is_waited_for(tmp_path, monkeypatch):
    """Neither computed twice nor left out: looked for until it is there, or until nobody is at it any more."""
    grid = small_grid(tmp_path, cutoffs=["conv2"], epochs=1)
    cell, naps = grid.units[-1], []
    run(grid, grid.units[:2])
    held = claim(grid.study.place("claims", cell))

    def nap(seconds):
        naps.append(grid.study.result(cell))
        if len(naps) == 3:
            held.__exit__(None, None, None)  # as when the other one is killed

    monkeypatch.setattr(sweeping.time, "sleep", nap)
    assert held.__enter__()
    run(grid, grid.units)
    assert naps == [None] * 3 and grid.study.result(cell) is not None


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The labels of the units that are computed."""
    labels, compute = [], Study.compute

    def noted(self, unit):
        labels.append(unit.label)
        compute(self, unit)

    monkeypatch.setattr(Study, "compute", noted)
    return labels


def test_only_what_is_new_is_computed(tmp_path, counted):
    first = small_sweep(tmp_path, epochs=1)
    assert counted == ["natural-seed0", "adversarial-seed0", "A1N2-02-seed0", "A1N2-04-seed0"]
    counted.clear()
    assert_identical(small_sweep(tmp_path, epochs=1), first)
    assert counted == []
    small_sweep(tmp_path, "A1N2,A2N1", [2, 3], (0, 1), epochs=1)
    assert sorted(counted) == sorted(
        ["natural-seed1", "adversarial-seed1", "A1N2-03-seed0", "A2N1-02-seed0", "A2N1-03-seed0"]
        + [f"{code}-0{cutoff}-seed1" for code in ("A1N2", "A2N1") for cutoff in (2, 3)]
    )
    counted.clear()
    small_sweep(tmp_path, epochs=1, lr=0.05)
    assert len(counted) == 4


def test_what_is_kept_belongs_to_all_that_it_depends_on(tmp_path):
    """Another test attack needs no other training; other data, recipe, defense, seed or network does."""
    study, other = (small_grid(tmp_path, **settings).study for settings in ({}, {"test": "pgd:eps=0.2"}))
    one = small_grid(tmp_path).units[-1]
    assert study.training_key(one) == other.training_key(one) and study.key(one) != other.key(one)
    changed = [small_grid(tmp_path, **each).study for each in ({"epochs": 3}, {"adversarial": "pgd-at:eps=0.1"})]
    changed += [grid_of(tiny_net(), digits(200), "A1N2", out=tmp_path, **QUICK).study]
    changed += [grid_of(tiny_net(7), digits(), "A1N2", out=tmp_path, **QUICK).study]
    keys = [study.training_key(unit) for study in (study, *changed) for unit in (one, one.stage1)]
    keys += [study.training_key(unit) for unit in small_grid(tmp_path, "A1N2,N1A2", [2, 4], (0, 1)).units]
    assert len(set(keys)) == len(keys) - 2  # `one` and its stage 1 are in the grid, too
    lived = tiny_net()
    with torch.no_grad():
        lived.conv1.weight.add_(1)
    same = [grid_of(lived, digits(), "A1N2", out=tmp_path, **QUICK).study, small_grid(tmp_path, save_every=1.0).study]
    assert {each.key(one) for each in same} == {study.key(one)}  # the weights that a model comes with do not matter


def test_a_damaged_result_is_computed_again(tmp_path, counted, caplog):
    small_sweep(tmp_path, epochs=1)
    (kept,) = tmp_path.glob("cells/A1N2-02-*.json")
    for damage in ("", '{"key": ', "[]"):
        whole = kept.read_text()
        kept.write_text(damage)
        counted.clear()
        small_sweep(tmp_path, epochs=1)
        assert counted == ["A1N2-02-seed0"]
        assert "is damaged" in caplog.text
        again, before = json.loads(kept.read_text()), json.loads(whole)
        assert {**again, "seconds": 0} == {**before, "seconds": 0}


def test_one_unit_alone_and_what_it_begins_with(tmp_path, counted):
    data = small_sweep(tmp_path, "A1N2,N1A2", only=["A1N2-04-seed0"], epochs=1)
    assert counted == ["adversarial-seed0", "A1N2-04-seed0"]
    assert int((data["converged"] >= 0).sum()) == 1 and not json.loads(data.attrs["provenance"])["complete"]
    with pytest.raises(NetprobeError, match="unknown cell 'A1N2-05-seed0': did you mean 'A1N2-0"):
        small_sweep(tmp_path, only=["A1N2-05-seed0"], epochs=1)


def test_ctrl_c_gives_what_is_done(tmp_path, monkeypatch):
    compute = Study.compute

    def stopped(self, unit):
        if unit.label == "A1N2-04-seed0":
            raise KeyboardInterrupt
        compute(self, unit)

    monkeypatch.setattr(Study, "compute", stopped)
    with pytest.raises(Interrupted) as error:
        small_sweep(tmp_path, epochs=1)
    assert error.value.results["converged"].sel(cutoff=4).item() == -1
    assert error.value.results["converged"].sel(cutoff=2).item() >= 0


def test_stage_2_that_diverges_is_shown_as_failed(tmp_path, monkeypatch):
    train = Study._fit

    def diverging(self, unit, *rest):
        if unit.label == "A1N2-02-seed0":
            raise Diverged("the loss was nan at step 3")
        return train(self, unit, *rest)

    monkeypatch.setattr(Study, "_fit", diverging)
    data = small_sweep(tmp_path, epochs=1)
    assert data["converged"].sel(cutoff=2).item() == 0
    assert np.isnan(data["adversarial_loss"].sel(cutoff=2)).all()
    found = json.loads(data.attrs["provenance"])["findings"]
    assert found == {"A1N2-02-seed0": ["diverged: the loss was nan at step 3"]}


def test_a_network_that_guesses_is_shown_as_failed_with_its_numbers(tmp_path):
    """Its loss under attack, about log 10, is lower than that of many a network that has learnt: it must not count."""
    data = small_sweep(tmp_path, epochs=1, lr=1e-9)
    assert (data["converged"] == 0).all() and (data["whole_converged"] == 0).all()
    assert (data["clean_accuracy"] < 0.2).all() and float(data["adversarial_loss"].max()) < 2.6
    assert np.isnan(data["mean_adversarial_loss"]).all() and np.isnan(data["mean_whole_clean_loss"]).all()
    assert data["failed_cells"].item() == data["computed_cells"].item() == 2


def test_the_dataset_says_what_it_holds(whole):
    data = whole
    assert data["adversarial_loss"].dims == ("code", "cutoff", "seed")
    assert data["whole_clean_accuracy"].dims == ("training", "seed")
    for name, values in data.data_vars.items():
        assert {"long_name", "units", "definition"} <= set(values.attrs), name
        stem = name.removesuffix("_interval")
        if name != stem:
            assert values.dims == (*data[stem].dims, "bound")
            low, high = values.sel(bound="low"), values.sel(bound="high")
            assert (low.isnull() | ((low <= data[stem]) & (data[stem] <= high))).all(), name
    about = json.loads(data.attrs["provenance"])
    assert about["complete"] and about["recipe"]["epochs"] == 2 and about["recipe"]["validation"] == 0
    assert about["test attack"]["steps"] == 3 and about["trainings"]["adversarial"]["eps"] == 0.1
    assert about["data"]["samples"] == 64 and about["training data"]["samples"] == 256


def test_means_and_intervals_by_hand(tmp_path):
    """Two seeds, of which one failed at one cutoff; t(0.975, 1) = 12.7062."""
    grid = small_grid(tmp_path, seeds=(0, 1))
    right = {(2, 0): 40, (4, 0): 60, (2, 1): 3, (4, 1): 50}
    for unit in grid.units:
        count = right.get((getattr(unit, "cutoff", None), unit.seed), 30)
        numbers = {"images": 64, "clean_correct": count, "adversarial_correct": count - 2, "findings": []}
        for condition in ("clean", "adversarial"):
            numbers |= {f"{condition}_loss": 1.0, f"{condition}_loss_interval": [0.0, 2.0]}
        place = grid.study.place("cells", unit)
        write_record(place.with_name(f"{place.name}.json"), grid.study.key(unit), numbers)
    data = grid.results()
    assert data["converged"].values.tolist() == [[[1, 0], [1, 1]]]  # 3 of 64 is less than chance
    per_seed = (38 + 58) / 2 / 64, 48 / 64
    assert float(data["mean_adversarial_accuracy"][0]) == pytest.approx(np.mean(per_seed))
    half = 12.7062 * np.std(per_seed, ddof=1) / np.sqrt(2)
    bounds = data["mean_adversarial_accuracy_interval"].values[0]
    assert bounds == pytest.approx([np.mean(per_seed) - half, np.mean(per_seed) + half], rel=1e-5)
    assert (data["failed_cells"].item(), data["computed_cells"].item()) == (1, 4)
    assert data["mean_whole_adversarial_accuracy"].values.tolist() == [28 / 64] * 2
    own = data["adversarial_accuracy_interval"].sel(code="A1N2", cutoff=4, seed=1).values
    assert tuple(own) == wilson(48, 64)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"codes": "A1N3"}, "unknown code 'A1N3'"),
        ({"cutoffs": "conv7"}, "unknown cutoff 'conv7'"),
        ({"cutoffs": [9]}, "early layers from 0 to 5"),
        ({"seeds": (0, 0)}, "different whole numbers"),
        ({"seeds": ()}, "different whole numbers"),
        ({"seeds": (-1,)}, "different whole numbers"),
        ({"natural": "naturel"}, "unknown defense 'naturel'"),
        ({"recipe": "slow"}, "unknown preset 'slow'"),
        ({"epoch": 3}, "epoch"),
        ({"test": "pgt:eps=0.1"}, "did you mean 'pgd'"),
        ({"adversarial": "natural", "test": None}, "does not say how to test it"),
    ],
)
def test_mistakes_are_found_before_the_work(tmp_path, wrong, said, counted):
    with pytest.raises(NetprobeError, match=said):
        small_sweep(tmp_path, **wrong)
    assert not counted


def test_torchrun_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(NetprobeError, match="several processes with the same `out`"):
        small_sweep(tmp_path)


def test_defenses_that_change_the_network_are_refused(tmp_path):
    class Fronted(Natural):
        def build(self, model):
            return torch.nn.Sequential(torch.nn.Identity(), model)

    with pytest.raises(NetprobeError, match="changes the network itself"):
        small_sweep(tmp_path, natural=Fronted())


def test_the_default_test_attack_is_the_training_ball_a_hundred_steps_deep(tmp_path):
    study = grid_of(tiny_net(), digits(), out=tmp_path, seeds=[0]).study
    assert study.attack.steps == 100 and study.attack.eps == 8 / 255
    assert study.attack.step_size == pytest.approx(1 / 255) and study.attack.random_start
    assert study.trainings["adversarial"].attack().stride == pytest.approx(2 / 255)


def test_a_data_set_by_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(sweeping, "run", lambda grid, units: seen.append(grid))
    sweep(tiny_net(), "digits", "N2A1_l", "all", [3], out=tmp_path, **QUICK)
    (grid,) = seen
    assert (grid.study.train.split, grid.study.test.split) == ("train", "test")
    assert grid.cutoffs == {"N2A1_l": [0, 1, 2, 3, 4]} and grid.study.recipe.validation == 0

"""Verbs under torchrun: two processes share the images and give what one gives."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from netprobe.models import digits_cnn
from netprobe.store import open_results

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
COMMON = ["--data", "digits", "--limit", "40", "--perturb", "pgd:eps=0.1,steps=2", "--no-progress", "--no-preflight"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.pt"
    torch.save(digits_cnn().state_dict(), path)
    return path


def run(verb, checkpoint, out, *options, launcher=()):
    command = [sys.executable, *launcher, "-m", "netprobe", verb, f"net=digits_cnn@{checkpoint}", *COMMON, *options]
    done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out / "results.nc"


@pytest.mark.slow
def test_a_probe_is_joined_from_its_shares(checkpoint, tmp_path):
    metrics = ["--metrics", "psr,spectrum"]
    alone = open_results(run("probe", checkpoint, tmp_path / "one", *metrics))
    together = open_results(run("probe", checkpoint, tmp_path / "two", *metrics, launcher=TORCHRUN))
    for metric, name in (("psr", "psr"), ("spectrum", "eigenvalues"), ("accuracy", "correct")):
        ours, theirs = (tree["net"][metric][name].values for tree in (together, alone))
        # Batches differ, and so does their float32 rounding.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-12)
    assert not list((tmp_path / "two").glob("partial*"))


@pytest.mark.slow
def test_an_evaluation_has_the_same_bytes(checkpoint, tmp_path):
    alone = run("evaluate", checkpoint, tmp_path / "one", "--no-doubts")
    together = run("evaluate", checkpoint, tmp_path / "two", "--no-doubts", launcher=TORCHRUN)
    assert alone.read_bytes() == together.read_bytes()


def test_a_shard_beside_torchrun_is_refused(monkeypatch):
    from netprobe import processes
    from netprobe.cli.sharing import shared
    from netprobe.errors import NetprobeError

    monkeypatch.setattr(processes, "processes", lambda: processes.Processes(1, 2))
    with pytest.raises(NetprobeError, match="leave out --shard 0/4"), shared({"shard": "0/4"}):
        pass

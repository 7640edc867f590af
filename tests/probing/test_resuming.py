"""Probes that are interrupted or killed leave a readable part, and go on to exactly what one run gives."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import QUIET, ConvNet, assert_same, images, seeded
from torch import Tensor

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.guard import undivided
from netprobe.probing.partial import Partial

METRICS = "psr,snr,hoyer,spectrum,correlation"


def dim(model, x, y, *, generator):
    """A perturbation that draws, so that going on must draw what one run would have drawn."""
    return (x + 0.1 * torch.rand_like(x)).clamp(0, 1)


class Fuse:
    """`dim`, but raising or signalling on its `at`-th batch."""

    def __init__(self, at: int, blow: Callable[[], None]) -> None:
        self.at, self.blow, self.calls = at, blow, 0
        self.__qualname__, self.__module__ = dim.__qualname__, dim.__module__  # what results know callables by

    def __call__(self, model, x, y, *, generator):
        self.calls += 1
        if self.calls == self.at:
            self.blow()
        return dim(model, x, y, generator=generator)


def interrupt() -> None:
    raise KeyboardInterrupt


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def probe(perturbation=dim, models=None, metrics=METRICS, **settings):
    models = {"m": seeded(ConvNet)} if models is None else models
    settings = {"batch_size": 3, **QUIET, **settings}
    return npb.probe(models, images(), {"dim": perturbation, "noise": "gaussian:std=0.1"}, metrics, **settings)


def seen(partial: Partial, model: str = "m") -> list[int]:
    return partial.models[model].outcomes.read()[0].tolist()


@pytest.mark.parametrize("blow", [interrupt, press_ctrl_c])
def test_an_interrupted_probe_has_results_so_far(blow):
    with pytest.raises(npb.Interrupted) as caught:
        probe(Fuse(4, blow))
    partial = caught.value.partial
    assert isinstance(caught.value, KeyboardInterrupt) and "partial.compute()" in str(caught.value)
    assert seen(partial) == list(range(9)) and not partial.complete
    tree = partial.compute()
    assert tree["m/psr"].image.values.tolist() == list(range(9))
    np.testing.assert_array_equal(tree["m/psr/psr"], probe()["m/psr/psr"].sel(image=slice(0, 8)))
    assert '"complete": false' in tree.attrs["provenance"]


@pytest.mark.parametrize("at", [1, 2])
def test_results_of_the_first_batches(at):
    """None, and fewer images than a jackknife block."""
    with pytest.raises(npb.Interrupted) as caught:
        probe(Fuse(at, interrupt), batch_size=2)
    tree = caught.value.partial.compute()
    assert ("m" in tree.children) == (at > 1)
    if at > 1:
        assert tree["m/correlation/shift_interval"].isnull().all() and tree["m/psr"].sizes["image"] == 2


@pytest.mark.parametrize("metrics", [METRICS, "psr,cka"])
@pytest.mark.parametrize("at", [1, 3, 7])
def test_going_on_from_the_file_gives_exactly_one_run(tmp_path, at, metrics):
    path = tmp_path / "part"
    with pytest.raises(npb.Interrupted):
        probe(Fuse(at, interrupt), metrics=metrics, partial=path)
    assert seen(Partial.load(path)) == list(range(3 * (at - 1)))
    rest = Fuse(100, interrupt)
    resumed = probe(rest, metrics=metrics, partial=path)
    assert_same(resumed, probe(metrics=metrics))
    # seven batches in all; the images of the first ones are made again for kernels only
    assert rest.calls == 8 - at + (7 if metrics == "psr,cka" and at > 1 else 0)


class Stopping(ConvNet):
    """Presses Ctrl-C between its first and its second layer, once, in the `at`-th forward pass from now."""

    at = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        self.at -= 1
        if self.at == 0:
            self.stop()
        x = self.relu2(self.conv2(x))
        return self.head(x.mean((2, 3)))

    stop = staticmethod(press_ctrl_c)


class Arming:
    """`dim`, which sets the model's fuse on its `at`-th batch: the next forward pass is the one that is probed."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0
        self.__qualname__, self.__module__ = dim.__qualname__, dim.__module__

    def __call__(self, model, x, y, *, generator):
        self.calls += 1
        if self.calls == self.at:
            model.at = 1
        return dim(model, x, y, generator=generator)


@pytest.mark.parametrize("paired", [True, False])
def test_ctrl_c_in_the_middle_of_a_batch_waits_for_its_end(tmp_path, paired):
    """Otherwise the batch would count at the first layers and not at the last, and twice when the probe goes on."""
    path = tmp_path / "part"
    with pytest.raises(npb.Interrupted) as caught:
        probe(Arming(3), {"m": seeded(Stopping)}, partial=path, paired=paired)
    partial = caught.value.partial
    assert seen(partial) == seen(Partial.load(path)) == list(range(9))
    partial.compute()
    assert_same(
        probe(models={"m": seeded(Stopping)}, partial=path, paired=paired),
        probe(models={"m": seeded(Stopping)}, paired=paired),
    )


def test_an_error_in_the_middle_of_a_batch_is_not_saved(tmp_path, monkeypatch):
    """What was flushed before it is, and the probe goes on from there."""
    monkeypatch.setattr("netprobe.probing.probe.FLUSH_SECONDS", 0)

    def fail() -> None:
        raise RuntimeError("in the model")

    path, model = tmp_path / "part", seeded(Stopping)
    model.stop = fail
    with pytest.raises(RuntimeError, match="in the model"):
        probe(Arming(3), {"m": model}, partial=path)
    assert seen(Partial.load(path)) == list(range(6))
    assert_same(probe(models={"m": seeded(Stopping)}, partial=path), probe(models={"m": seeded(Stopping)}))


def test_ctrl_c_waits_only_where_it_can_and_only_so_long():
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with undivided():
            press_ctrl_c()
            steps.append("inside")
        steps.append("after")
    assert steps == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(RuntimeError, match="first"), undivided():
        raise RuntimeError("first")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def elsewhere() -> None:
        with undivided():
            steps.append("thread")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert steps == ["inside", "thread"]


def test_interrupted_in_the_second_model(tmp_path):
    path = tmp_path / "part"
    models = {"a": seeded(ConvNet), "b": seeded(ConvNet, width=5)}
    with pytest.raises(npb.Interrupted) as caught:
        probe(Fuse(10, interrupt), models, partial=path)
    assert len(seen(caught.value.partial, "a")) == 20 and seen(caught.value.partial, "b") == list(range(6))
    rest = Fuse(100, interrupt)
    assert_same(probe(rest, models, partial=path), probe(models=models))
    assert rest.calls == 5  # the first model is done


@pytest.mark.parametrize("memory", ["1GiB", "12KB"])
def test_interrupted_between_kernels(tmp_path, memory, monkeypatch):
    """When some sites' kernels are done: the others are made again, and nothing is lost. 12 KB makes several passes."""
    from netprobe.probing.passes import Pass

    finish, done = Pass._finish, []

    def finish_twice(self: Pass, *args) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        finish(self, *args)

    monkeypatch.setattr(Pass, "_finish", finish_twice)
    path = tmp_path / "part"
    with pytest.raises(npb.Interrupted) as caught:
        probe(metrics="psr,cka", partial=path, memory=memory)
    assert {node.path for node in caught.value.partial.compute().subtree if node.has_data} == {"/m/accuracy", "/m/psr"}
    assert Partial.load(path).models["m"].kernels_pending == ["head"]
    monkeypatch.setattr(Pass, "_finish", finish)
    resumed, expected = probe(metrics="psr,cka", partial=path, memory=memory), probe(metrics="psr,cka")
    # slices of another budget add up in another order, in float64
    assert_same(resumed, expected, rtol=0 if memory == "1GiB" else 1e-9)


def test_a_finished_probe_is_read_from_its_file(tmp_path):
    path = tmp_path / "part"
    first = probe(metrics="psr,cka", partial=path)
    before = path.stat().st_size
    again = Fuse(1, interrupt)
    assert_same(probe(again, metrics="psr,cka", partial=path), first)
    assert again.calls == 0 and path.stat().st_size == before


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"metrics": "psr"},
        {"sites": "conv"},
        {"dtype": "float64"},
        {"paired": False},
        {"shard": "0/2"},
        {"models": {"m": seeded(ConvNet, seed=1)}},
        {"models": {"other": seeded(ConvNet)}},
        {"perturbation": "gaussian:std=0.2"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_file_of_another_probe_is_refused_and_left_alone(tmp_path, other):
    path = tmp_path / "part"
    probe(partial=path)
    before = path.read_bytes()
    with pytest.raises(NetprobeError, match=r"holds a probe with other .* move it away, or name another file"):
        probe(**{"perturbation": Fuse(1, interrupt), **other}, partial=path)
    assert path.read_bytes() == before


def test_how_it_is_run_may_change_when_it_goes_on(tmp_path):
    path = tmp_path / "part"
    with pytest.raises(npb.Interrupted):
        probe(Fuse(3, interrupt), partial=path, metrics="hoyer", dtype="float64")
    resumed = probe(partial=path, metrics="hoyer", dtype="float64", batch_size=7)["m/hoyer/hoyer_image"]
    expected = probe(metrics="hoyer", dtype="float64")["m/hoyer/hoyer_image"]
    for condition in ("clean", "noise"):  # `dim` draws for whole batches
        np.testing.assert_allclose(resumed.sel(condition=condition), expected.sel(condition=condition), rtol=1e-10)


def test_it_is_saved_now_and_then(tmp_path, monkeypatch):
    path = tmp_path / "part"
    lengths = []

    def look(model, x, y, *, generator):
        lengths.append(len(seen(Partial.load(path))) if path.exists() else None)
        return x

    monkeypatch.setattr("netprobe.probing.probe.FLUSH_SECONDS", 0)
    probe(look, partial=path, metrics="psr")
    assert lengths == [None, 3, 6, 9, 12, 15, 18]
    path.unlink()
    lengths.clear()
    monkeypatch.setattr("netprobe.probing.probe.FLUSH_SECONDS", 3600)
    probe(look, partial=path, metrics="psr")
    assert lengths == [None] * 7 and seen(Partial.load(path)) == list(range(20))


SCRIPT = '''
import os, signal, sys
import netprobe as npb
from netprobe.probing import probe as probing
from tiny import QUIET, ConvNet, images, seeded

calls = 0

def deadly(model, x, y, *, generator):
    """Noise of its own; in a process told so, death on the fourth batch."""
    global calls
    calls += 1
    if calls == 4 and os.environ.get("NETPROBE_TEST_DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    return (x + 0.1 * x.new_empty(x.shape).uniform_()).clamp(0, 1)

def run(path=None):
    probing.FLUSH_SECONDS = 0
    named = {"own": deadly, "noise": "gaussian:std=0.1"}
    metrics = "psr,snr,hoyer,spectrum,correlation,cka"
    return npb.probe({"m": seeded(ConvNet)}, images(), named, metrics, batch_size=3, partial=path, **QUIET)
'''


def test_a_killed_probe_goes_on_to_exactly_one_run(tmp_path, monkeypatch):
    """A process that dies by SIGKILL in its fourth batch; the next one with the same call finishes the work."""
    (tmp_path / "killed_probe.py").write_text(SCRIPT)
    path = tmp_path / "part"
    tests = Path(__file__).parents[1]
    environment = os.environ | {
        "NETPROBE_TEST_DIES": "1",
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), str(tmp_path)]),
    }
    command = [sys.executable, "-c", f"import killed_probe; killed_probe.run({str(path)!r})"]
    dead = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert seen(Partial.load(path)) == list(range(9))
    assert sorted(p.name for p in tmp_path.glob("*part*")) == ["part"]  # nothing half-written

    spec = importlib.util.spec_from_file_location("killed_probe", tmp_path / "killed_probe.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "killed_probe", script)
    spec.loader.exec_module(script)
    monkeypatch.setattr("netprobe.probing.probe.FLUSH_SECONDS", 0)
    resumed = script.run(path)
    assert script.calls == 4 + 7  # the batches not yet done; for the kernels all of them, which died with the process
    assert_same(resumed, script.run())

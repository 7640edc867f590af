"""What long work keeps: the last whole state, of this work alone."""

from __future__ import annotations

import pytest
import torch

from netprobe.errors import CheckpointError
from netprobe.store.scratch import Scratch


def test_without_a_place_it_keeps_nothing():
    scratch = Scratch()
    scratch.write({"step": 1})
    scratch.forget()
    assert scratch.read() is None and not scratch.due


def test_the_last_state_is_read_back_until_it_is_forgotten(tmp_path):
    path = tmp_path / "state.pt"
    scratch = Scratch(path, "key", every=0.0)
    assert scratch.read() is None and scratch.due
    for step in (1, 2):
        scratch.write({"step": step, "weight": torch.full((2,), step)})
    found = Scratch(path, "key").read()
    assert found["step"] == 2 and found["weight"].tolist() == [2, 2]
    scratch.forget()
    assert scratch.read() is None and not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_state_before(tmp_path, monkeypatch):
    scratch = Scratch(tmp_path / "state.pt", "key")
    scratch.write({"step": 1})

    def failing(_contents, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="no space"):
        scratch.write({"step": 2})
    assert scratch.read() == {"step": 1} and len(list(tmp_path.iterdir())) == 1


def test_states_of_other_work_are_refused(tmp_path):
    Scratch(tmp_path / "state.pt", "theirs").write({})
    with pytest.raises(CheckpointError, match=r"state\.pt is of another training.*delete"):
        Scratch(tmp_path / "state.pt", "ours").read()


def test_one_process_writes_for_all(tmp_path):
    leader, other = (Scratch(tmp_path / "state.pt", "key", writes=writes) for writes in (True, False))
    other.write({"step": 0})
    assert leader.read() is None
    leader.write({"step": 1})
    other.forget()
    assert other.read() == {"step": 1}


def test_a_state_is_due_after_so_many_seconds(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("netprobe.store.scratch.time.monotonic", lambda: now[0])
    scratch = Scratch(tmp_path / "state.pt", "key", every=10.0)
    assert not scratch.due
    now[0] = 10.0
    assert scratch.due
    scratch.write({})
    assert not scratch.due

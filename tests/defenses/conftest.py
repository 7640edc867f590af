"""Trainings that are stopped."""

import contextlib

import pytest

from netprobe.training.loop import Loop


@pytest.fixture
def stopped_after(monkeypatch):
    """`with stopped_after(epochs):` a training inside ends with an error once it has made so many."""

    class Stopped(Exception):
        pass

    @contextlib.contextmanager
    def stopping(epochs):
        close = Loop._close_epoch

        def closing(self):
            close(self)
            if self.progress.epoch == epochs:
                raise Stopped

        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(Loop, "_close_epoch", closing)
            yield

    return stopping

"""How long something takes and how much memory it needs, for every benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile


def clocked(run: Callable, *arguments: object, device: str = "cpu") -> tuple[float, object]:
    """Seconds, and what `run` returned; on one thread of a CPU its own time, whoever else computes."""
    own = torch.get_num_threads() == 1 and device == "cpu"
    clock = time.process_time if own else time.perf_counter
    start = clock()
    result = run(*arguments)
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start, result


def seconds(run: Callable, device: str = "cpu") -> float:
    """`clocked` without what came of it."""
    return clocked(run, device=device)[0]


def peak(run: Callable[[], object], device: str) -> float:
    """MiB held at most at a time beyond what was held before."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    return max(np.cumsum(_changes(run)[0]), default=0) / 2**20


def kept(run: Callable[[], object], device: str) -> float:
    """MiB that are held for what `run` returns and for its gradients."""
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        found = run()
        held = torch.cuda.memory_allocated() - before
    else:
        changes, found = _changes(run)
        held = sum(changes)
    del found
    return held / 2**20


def _changes(run: Callable[[], object]) -> tuple[list[int], object]:
    """Bytes taken (freed: negative) on a CPU, in order, and what `run` returned."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        found = run()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())], found

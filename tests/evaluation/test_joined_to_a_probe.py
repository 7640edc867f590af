"""Accuracies beside a probe: what both give by themselves, in one result."""

import json

import numpy as np
import pytest
from evaluating_helpers import small, two_models
from tiny import images

import netprobe as npb
from netprobe.evaluation import Interrupted, join

NOISE = {"noise": "gaussian:std=0.2"}
QUIET = {"preflight": False, "progress": False}


@pytest.fixture
def probed():
    return npb.probe(two_models(), images(20), NOISE, "snr", sites="conv", **QUIET)


def test_both_are_what_they_are_alone(probed, tmp_path):
    tree = join(probed, two_models(), images(20), {"pgd": "pgd:eps=0.1,steps=4"}, progress=False)
    alone = small({"pgd": "pgd:eps=0.1,steps=4"})
    assert tree["one/snr"].to_dataset().drop_attrs().equals(probed["one/snr"].to_dataset().drop_attrs())
    for path in ("one/evaluation", "other/worst_case", "comparison"):
        assert tree[path].to_dataset().drop_attrs().equals(alone[path].to_dataset().drop_attrs())
    about = json.loads(tree.attrs["provenance"])
    assert set(about["perturbations"]) == {"noise"} and set(about["evaluation"]["perturbations"]) == {"pgd"}
    assert npb.open_results(npb.save_results(tree, tmp_path / "results.nc")).identical(tree)


def test_interrupted_it_keeps_the_probe_and_what_is_done(probed):
    calls = []

    def stopping(model, x, y, *, generator):
        calls.append(len(x))
        if len(calls) > 4:  # as many chunks as the first model has
            raise KeyboardInterrupt
        return x

    with pytest.raises(Interrupted) as caught:
        join(probed, two_models(), images(20), {"stopping": stopping}, chunk=6, progress=False)
    tree = caught.value.results
    first, second = (tree[f"{name}/evaluation/correct"].sel(condition="stopping").values for name in two_models())
    assert "snr" in tree["one"].children and np.all(first >= 0) and np.all(second == -1)

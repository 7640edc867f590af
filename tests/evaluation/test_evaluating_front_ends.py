"""Networks behind front ends: every declared way is tried, and what misleads is seen."""

import dataclasses

import numpy as np
import pytest
from torch import nn

import netprobe as npb
from netprobe import data
from netprobe.defenses.front_end import BYPASS, Defended, FrontEnd
from netprobe.errors import NetprobeError
from netprobe.perturb import PGD
from netprobe.perturb.backward import in_gradient
from netprobe.perturb.transfer import transfers
from netprobe.training import fit

QUIET = {"progress": False, "preflight": False}
ATTACK = PGD(0.2, steps=15)


class Coarse(FrontEnd):
    """Pixels in five levels; one of its ways back leads astray."""

    backward_passes = ("astray", "identity", BYPASS)

    def transform(self, x):
        exact = (4 * x).round() / 4 + 0 * x
        return exact if self.followed is None else in_gradient(exact, -x if self.followed == "astray" else x)


class Astray(Coarse):
    """Declares only the way that misleads."""

    backward_passes = ("astray",)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=80)


@pytest.fixture(scope="module")
def plain():
    trained = fit("natural", "mlp", data.load("digits", "train", limit=600), "quick", epochs=8, progress=False)
    return trained.model


def results(models, digits, attacks, **settings):
    return npb.evaluate(models, digits, attacks, **{**QUIET, "doubts": False, **settings})


def test_an_image_is_right_only_if_it_stands_every_declared_way(plain, digits):
    ways = {way: dataclasses.replace(ATTACK, backward=way) for way in Coarse.backward_passes}
    tree = results({"net": Defended(Coarse(), plain)}, digits, {"pgd": ATTACK} | ways)
    found = tree["net/evaluation"].to_dataset()
    right = {name: found["correct"].sel(condition=name).values for name in ("clean", "pgd", *ways)}
    assert right["astray"].mean() > right["identity"].mean() + 0.2  # alone, it would make a mask look robust
    assert right["pgd"].mean() <= min(right[way].mean() for way in ways)
    broken = found["broken_by"].sel(condition="pgd").values
    assert set(np.unique(broken.astype(str))) <= {"", *ways}
    assert ((broken != "") == ((right["clean"] == 1) & (right["pgd"] == 0))).all()
    assert (found["broken_by"].sel(condition="clean") == "").all()
    for way in ways:
        assert set(np.unique(found["broken_by"].sel(condition=way).values.astype(str))) <= {"", way}


def test_it_is_saved_and_read_back(plain, digits, tmp_path):
    tree = results({"net": Defended(Coarse(), plain)}, digits, {"pgd": ATTACK}, folder=tmp_path)
    again = results({"net": Defended(Coarse(), plain)}, digits, {"pgd": ATTACK}, folder=tmp_path)
    npb.save_results(again, tmp_path / "results.nc")
    read = npb.open_results(tmp_path / "results.nc")["net/evaluation"]["broken_by"]
    assert (read == tree["net/evaluation"]["broken_by"]).all()


def test_a_transfer_that_is_stronger_than_the_networks_own_gradients_raises_doubt(plain, digits):
    """As the unsupervised twin of a front end shows that its white-box numbers are masked."""
    model = Defended(Astray(), plain)
    attacks = {"pgd": ATTACK} | transfers({"pgd": ATTACK}, {"twin": plain})
    tree = results({"net": model}, digits, attacks, doubts=True, probe_images=60)
    found = tree["doubts"].to_dataset()
    flagged = set(found["row_check"].values[found["status"].values == "flagged"])
    assert "black box" in flagged
    right = tree["net/evaluation"]["accuracy"]
    assert right.sel(condition="pgd from twin") < right.sel(condition="pgd")


def test_a_backward_pass_that_no_model_knows_is_an_error_before_the_work(plain, digits):
    with pytest.raises(NetprobeError, match=r"unknown backward pass of pgd 'smooth'.*astray"):
        results({"net": Defended(Coarse(), plain)}, digits, {"pgd": dataclasses.replace(ATTACK, backward="smooth")})


def test_front_ends_with_no_declared_way_look_masked(plain, digits):
    """What a stranger's quantiser without surrogates does: its gradient is zero, and the evaluation says so."""

    class Undeclared(nn.Module):
        def forward(self, x):
            return (4 * x).round() / 4 + 0 * x

    tree = results({"net": nn.Sequential(Undeclared(), plain)}, digits, {"pgd": ATTACK}, doubts=True, probe_images=60)
    found = tree["doubts"].to_dataset()
    assert "zero or tiny gradients" in found["row_check"].values[found["status"].values == "flagged"]
    assert "do not trust" in str(found["verdict"].values[0])


def test_a_source_of_transfers_is_rehearsed(plain, digits):
    """An error of the source comes before the work, with the name of the condition."""
    attack = transfers({"pgd": ATTACK}, {"twin": Defended(Coarse(), nn.Flatten(0))})
    with pytest.raises(NetprobeError, match=r"net, pgd from twin by astray: .*logits"):
        results({"net": plain}, digits, attack)

"""AutoAttack: which parts with which settings, in turn on survivors only, and the same survivors as the reference."""

from __future__ import annotations

import time
from typing import ClassVar

import pytest
import torch
from test_standing_laws import Quick, fool, setting
from torch import nn

from netprobe.errors import NetprobeError
from netprobe.perturb import APGD, Attacked, ImageGenerator, TargetedAPGD, family
from netprobe.perturb.autoattack import AutoAttack
from netprobe.perturb.fab import FAB, TargetedFAB
from netprobe.perturb.square import Square


def test_versions_have_the_published_parts():
    eps = 0.1
    assert AutoAttack(eps).parts == {
        "apgd-ce": APGD(eps, steps=100),
        "apgd-t": TargetedAPGD(eps, steps=100, targets=9),
        "fab-t": TargetedFAB(eps, steps=100, targets=9),
        "square": Square(eps, queries=5000, patch=0.8),
    }
    assert AutoAttack(eps, norm="l2", version="plus", low=-1).parts == {
        "apgd-ce": APGD(eps, norm="l2", restarts=5, low=-1),
        "apgd-dlr": APGD(eps, norm="l2", restarts=5, loss="dlr", low=-1),
        "fab": FAB(eps, norm="l2", restarts=5, low=-1),
        "square": Square(eps, norm="l2", low=-1),
        "apgd-t": TargetedAPGD(eps, norm="l2", low=-1),
        "fab-t": TargetedFAB(eps, norm="l2", low=-1),
    }
    assert AutoAttack(eps, version="rand").parts == {
        "apgd-ce": APGD(eps, eot=20),
        "apgd-dlr": APGD(eps, eot=20, loss="dlr"),
    }
    assert list(AutoAttack(eps, version="apgd").parts.items()) == list(AutoAttack(eps).parts.items())[:2]
    wide = AutoAttack(eps, norm="l1").parts
    assert (wide["apgd-ce"].restarts, wide["apgd-t"].targets) == (5, 5)
    assert [family(AutoAttack(eps)), family(AutoAttack(eps, version="rand", norm="l2"))] == [
        "AutoAttack",
        "AutoAttack rand L2",
    ]


class Recorded(Quick):
    """Parts that fool the images whose numbers they are given, and remember whom they saw."""

    seen: ClassVar[list[list[int]]] = []

    @property
    def parts(self):
        return {"one": Part({1, 3}), "two": Part({0, 3, 4}), "three": Part(set()), "four": Part({5})}


class Part:
    def __init__(self, fooled):
        self.fooled = fooled

    def fool(self, model, x, y, *, generator, slots, gradients):
        images = generator.images.tolist()
        Recorded.seen.append(images)
        ones = torch.ones_like(y)
        fooled = torch.tensor([i in self.fooled for i in images])
        return Attacked(x + 0.01, fooled, ones, 2 * ones)


def test_every_part_sees_the_survivors_and_the_first_to_fool_is_recorded():
    """Image 0 is a mistake of the model, so that nobody sees it."""
    pytest.importorskip("pyautoattack", reason="pip install netprobe-torch[attacks]")
    Recorded.seen.clear()
    model, x, y = setting()
    outcome = fool(Recorded(0.1), model, x, y)
    assert Recorded.seen == [[1, 2, 3, 4, 5], [2, 4, 5], [2, 5], [2, 5]]
    assert outcome.broken_by.tolist() == [-1, 0, -1, 0, 1, 3]
    assert outcome.fooled.tolist() == [True, True, False, True, True, True]
    assert outcome.forwards.tolist() == [1, 2, 5, 2, 3, 5]
    assert outcome.backwards.tolist() == [0, 2, 8, 2, 4, 8]


def test_too_few_classes_are_refused_before_any_work():
    pytest.importorskip("pyautoattack", reason="pip install netprobe-torch[attacks]")
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).eval()
    x = torch.rand(4, 6)
    y = model(x).argmax(1)
    with pytest.raises(NetprobeError, match="needs 4 classes, but the model has 3"):
        AutoAttack(0.1).fool(model, x, y, generator=None)


def test_without_fab_no_library_is_needed(monkeypatch):
    def absent(*_):
        raise NetprobeError("not installed")

    monkeypatch.setattr("netprobe.perturb.autoattack.needed", absent)
    model, x, y = setting()
    for version in ("rand", "apgd"):
        assert len(fool(AutoAttack(0.1, version=version), model, x, y).fooled) == len(x)
    for version in ("standard", "plus"):
        with pytest.raises(NetprobeError, match="not installed"):
            fool(AutoAttack(0.1, version=version), model, x, y)


def test_targeted_fab_is_the_reference_to_the_bit():
    """The same library on the same float32 network; our copy of a network without batch norm is the network."""
    reference = pytest.importorskip("pyautoattack.fab_pt", reason="pip install netprobe-torch[attacks]")
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 5)).eval().requires_grad_(False)
    x = torch.rand(8, 2, 5, 3)
    y = model(x).argmax(1)
    theirs = reference.FABAttack_PT(model, n_iter=10, eps=0.06, targeted=True, n_target_classes=4).perturb(x, y)
    ours = TargetedFAB(0.06, steps=10).fool(model, x, y, generator=ImageGenerator(0, range(8)))
    assert 0 < ours.fooled.sum() < 8
    assert torch.equal(ours.fooled, model(theirs).argmax(1) != y)
    torch.testing.assert_close(ours.x[ours.fooled], theirs[ours.fooled], rtol=0, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["NT", "PGD"])
def test_survivors_are_the_references_image_by_image(data_root, which, capsys):
    """64 images, Linf 8/255; one borderline image may differ: the two draw other random numbers."""
    reference = pytest.importorskip("pyautoattack", reason="pip install netprobe-torch[attacks]")
    import netprobe as npb
    from netprobe import data as npdata

    checkpoint = next((data_root / "checkpoints").glob(f"resnet_sgd_*{which}*"))
    model = npb.load("resnet32_thin", checkpoint, normalize="cifar10").requires_grad_(False)
    data, counted = npdata.load("cifar10-jpeg", limit=64, root=data_root), Counted(model)
    began = time.process_time()
    ours = AutoAttack(8 / 255).fool(model, data.inputs, data.labels, generator=ImageGenerator(0, range(64)), slots=64)
    between = time.process_time()
    theirs = reference.AutoAttack(counted, norm="Linf", eps=8 / 255, seed=0, version="standard")
    adversarial, _ = theirs.run_standard_evaluation(data.inputs, data.labels, batch_size=64)
    ended = time.process_time()
    stand = model(adversarial).argmax(1) == data.labels
    with capsys.disabled():
        print(f"\n{which}, {len(data)} images, Linf 8/255: survivors, seconds of CPU, forwards, backwards")
        passes = int(ours.forwards.sum()), int(ours.backwards.sum())
        print(f"netprobe {(~ours.fooled).sum()}, {between - began:.0f}, {passes[0]}, {passes[1]}")
        print(f"pyautoattack {stand.sum()}, {ended - between:.0f}, {counted.forwards}, {counted.backwards}")
    assert (stand == ours.fooled).sum() <= 1
    assert between - began < ended - between


class Counted(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, x):
        self.forwards += len(x)
        logits = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self._note)
        return logits

    def _note(self, gradient):
        self.backwards += len(gradient)

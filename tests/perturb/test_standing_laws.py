"""What attacks owe their user that leave the model's mistakes as they are: black-box, minimum-norm and composite."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

from netprobe.errors import NetprobeError
from netprobe.perturb import APGD, PERTURBATIONS, ImageGenerator, eps_of, parse, to_spec
from netprobe.perturb.attack import attack
from netprobe.perturb.autoattack import AutoAttack
from netprobe.perturb.decision import Boundary, HopSkipJump
from netprobe.perturb.fab import FAB, TargetedFAB
from netprobe.perturb.minimum_norm import FMN, CarliniWagner, DeepFool, FoolboxAttack, MinimumNormAttack
from netprobe.perturb.square import Square
from netprobe.perturb.standing import StandingAttack
from netprobe.perturb.zoo import ZOO
from netprobe.testing.perturbations import LAWS, PerturbationSubject, predicted
from netprobe.testing.samples import Refusing

EPS = {"linf": 0.07, "l2": 0.35, "l1": 0.35}
SHAPES = {"image": (3, 7, 2), "vector": (11,), "waveform": (37,), "video": (2, 1, 4, 6)}


class Quick(AutoAttack):
    """AutoAttack's machinery with parts that take no time."""

    @property
    def parts(self):
        ball = {"eps": self.eps, "norm": self.norm, "low": self.low, "high": self.high}
        return {"apgd-ce": APGD(**ball, steps=3), "square": Square(**ball, queries=20)}


CASES: dict[str, StandingAttack] = {
    **{f"square-{norm}": Square(eps, norm=norm, queries=70 if norm == "linf" else 25) for norm, eps in EPS.items()},
    **{f"fab-{norm}": FAB(eps, norm=norm, steps=4) for norm, eps in EPS.items()},
    "fab-t": TargetedFAB(0.07, steps=4),
    "autoattack": Quick(0.07),
    **{f"fmn-{norm}": FMN(norm, steps=12) for norm in ("l0", "l1", "l2", "linf")},
    **{f"deepfool-{norm}": DeepFool(norm, steps=6) for norm in ("l2", "linf")},
    "cw-l2": CarliniWagner(steps=15, binary_search_steps=3, abort_early=False, initial_const=1.0),
    "zoo": ZOO(steps=6, coordinates=5, binary_search_steps=2, initial_const=10.0, stepsize=0.2),
    "boundary": Boundary(steps=12),
    "hopskipjump-l2": HopSkipJump(steps=2, initial_queries=9),
    "hopskipjump-linf": HopSkipJump("linf", steps=2, initial_queries=9),
}
LIBRARY = {"fab": "pyautoattack", "autoattack": "pyautoattack"}
every_case = pytest.mark.parametrize("name", CASES)


def case(name: str) -> StandingAttack:
    """The attack; the test skips where its library is missing."""
    made = CASES[name]
    library = "foolbox" if isinstance(made, FoolboxAttack) else LIBRARY.get(name.partition("-")[0])
    if library is not None:
        pytest.importorskip(library, reason=f"{library} is not installed: pip install netprobe-torch[attacks]")
    return made


@pytest.mark.parametrize("law", LAWS, ids=[law.name for law in LAWS])
@every_case
def test_every_attack_keeps_the_laws(name, law):
    attack = subject(name)
    if law.applies(attack):
        law(attack)


@functools.cache
def subject(name):
    """Libraries compute in float32 and say so: 1e-5 for what they make of roundings of 1e-7 in another batch."""
    return PerturbationSubject(case(name), tuple(SHAPES.values()), 1e-10 if ours(CASES[name]) else 1e-5)


def ours(perturbation):
    """Whether no other library makes it."""
    return isinstance(perturbation, (Square, AutoAttack))


def setting(shape=(3, 7, 2), dtype=torch.float32):
    """A network, six inputs, and the labels it gives them, but for the first, which it gets wrong."""
    return PerturbationSubject(None).tried(dtype, shape)


def fool(perturbation, model, x, y, seed=3, images=None, slots=None):
    images = range(len(x)) if images is None else images
    return perturbation.fool(model, x, y, generator=ImageGenerator(seed, images), slots=slots)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@every_case
def test_the_verdict_is_the_models(name, dtype):
    perturbation, (model, x, y) = case(name), setting(dtype=dtype)
    outcome = fool(perturbation, model, x, y)
    assert torch.equal(outcome.fooled, predicted(model, outcome.x) != y)


@every_case
def test_called_it_returns_what_fool_finds(name):
    perturbation, (model, x, y) = case(name), setting()
    called = perturbation(model, x, y, generator=ImageGenerator(3, range(6)))
    assert torch.equal(called, fool(perturbation, model, x, y).x)


@every_case
def test_mistakes_stay_and_cost_one_pass_and_failures_of_minimum_norms_stay_too(name):
    perturbation, (model, x, y) = case(name), setting()
    outcome = fool(perturbation, model, x, y)
    assert outcome.fooled[0] and torch.equal(outcome.x[0], x[0])
    assert outcome.forwards[0] == 1 and outcome.backwards[0] == 0
    assert (outcome.forwards[1:] > 1).all()
    moved = (outcome.x != x).flatten(1).any(1)
    assert moved[1:].any()
    if isinstance(perturbation, MinimumNormAttack):
        assert torch.equal(moved[1:], outcome.fooled[1:])


@every_case
def test_the_model_is_never_shown_an_empty_batch_whatever_the_slots(name):
    perturbation, (model, x, y) = case(name), setting()
    fool(perturbation, Refusing(model), x, y, slots=4)


@every_case
def test_another_seed_gives_another_result_where_it_draws(name):
    perturbation, (model, x, y) = case(name), setting()
    draws = isinstance(perturbation, (Square, ZOO, Boundary, HopSkipJump))
    assert not draws or not torch.equal(fool(perturbation, model, x, y, 7).x, fool(perturbation, model, x, y, 8).x)


@every_case
def test_slots_do_not_matter(name):
    """As other batches do not, and the forward passes of ours neither."""
    perturbation, (model, x, y) = case(name), setting(dtype=torch.float64)
    whole, parts = fool(perturbation, model, x, y), fool(perturbation, model, x, y, slots=2)
    torch.testing.assert_close(whole.x, parts.x, rtol=0, atol=1e-10 if ours(perturbation) else 1e-5)
    assert not ours(perturbation) or torch.equal(whole.forwards, parts.forwards)


@every_case
def test_the_progress_bar_ends_full(name):
    perturbation, (model, x, y) = case(name), setting()
    done = []
    attack(perturbation, model, x, y, generator=ImageGenerator(0, range(6)), slots=2, advance_bar=done.append)
    assert sum(done) == 6


@every_case
def test_labels_that_the_model_does_not_have_are_refused(name):
    perturbation, (model, x, y) = case(name), setting()
    with pytest.raises(NetprobeError, match="the model has 5 classes"):
        fool(perturbation, model, x, y + 3)


@pytest.mark.parametrize("name", [n for n, p in CASES.items() if p.strength == "eps"])
def test_eps_zero_fools_where_the_model_is_wrong(name):
    perturbation, (model, x, y) = dataclasses.replace(case(name), eps=0), setting()
    assert fool(perturbation, model, x, y).fooled.tolist() == [True] + 5 * [False]


@pytest.mark.parametrize("cls", [c for c in PERTURBATIONS.ours.values() if issubclass(c, StandingAttack)])
def test_classes_are_specs(cls):
    made = cls(EPS["linf"] if cls.strength == "eps" else "l2")
    assert parse(to_spec(made)) == made
    assert (eps_of(made) == EPS["linf"]) == (cls.strength == "eps")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("square:eps=8", "did you mean 8/255"),
        ("square", "square needs its eps"),
        ("square:eps=0.1,queries=0", "Square.queries must be a whole number, 1 or more"),
        ("square:eps=0.1,norm=l0", "unknown Square.norm 'l0'"),
        ("fmn", "fmn needs its norm: for instance fmn:norm=l2"),
        ("fmn:norm=l3", "unknown FMN.norm 'l3'.*l0, l1"),
        ("deepfool:candidates=1", "candidates must be a whole number, 2 or more"),
        ("boundary:start=near", "unknown Boundary.start 'near': did you mean 'nearest'"),
        ("hopskipjump:norm=l1", "unknown HopSkipJump.norm"),
        ("autoattack:eps=0.1,version=fast", "unknown AutoAttack.version 'fast'.*standard"),
        ("zoo:h=0", "ZOO.h must be a number"),
    ],
)
def test_impossible_settings_are_named(spec, message):
    with pytest.raises(NetprobeError, match=message):
        parse(spec)


@pytest.mark.parametrize("spec", ["boundary", "deepfool", "cw-l2", "hopskipjump", "zoo"])
def test_minimum_norms_of_one_usual_norm_need_no_settings(spec):
    assert parse(spec).norm == "l2"


@pytest.mark.parametrize("name", ["fmn-l2", "fab-t", "boundary"])
def test_a_missing_library_is_named_with_the_remedy(name, monkeypatch):
    import sys

    for module in [m for m in sys.modules if m.partition(".")[0] in ("foolbox", "pyautoattack")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Hides(), *sys.meta_path])
    model, x, y = setting()
    with pytest.raises(NetprobeError, match=r"which is not installed: pip install netprobe-torch\[attacks\]"):
        fool(CASES[name], model, x, y)


class Hides:
    """An importer that has never heard of foolbox and pyautoattack."""

    def find_spec(self, name, path=None, target=None):
        library = name.partition(".")[0]
        if library in ("foolbox", "pyautoattack"):
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)

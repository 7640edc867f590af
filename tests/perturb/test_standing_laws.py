"""What attacks owe their user that leave the model's mistakes as they are: black-box, minimum-norm and composite."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from test_perturbation_laws import SHAPES, Refusing, batch, network, snapshot

from netprobe.errors import NetprobeError
from netprobe.perturb import APGD, GEOMETRIES, PERTURBATIONS, ImageGenerator, describe, eps_of, parse, to_spec
from netprobe.perturb.attack import attack
from netprobe.perturb.autoattack import AutoAttack
from netprobe.perturb.decision import Boundary, HopSkipJump
from netprobe.perturb.fab import FAB, TargetedFAB
from netprobe.perturb.minimum_norm import FMN, CarliniWagner, DeepFool, FoolboxAttack, MinimumNormAttack
from netprobe.perturb.square import Square
from netprobe.perturb.standing import StandingAttack
from netprobe.perturb.zoo import ZOO

EPS = {"linf": 0.07, "l2": 0.35, "l1": 0.35}


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


def setting(shape=(6, 3, 7, 2), dtype=torch.float32):
    """A network, inputs, and the labels it gives them, but for the first, which it gets wrong."""
    model, (x, _) = network(shape, dtype), batch(shape, dtype)
    training = [m.training for m in model.modules()]
    with torch.no_grad():
        y = model.eval()(x).argmax(1)
    for module, mode in zip(model.modules(), training, strict=True):
        module.training = mode
    if len(y) > 1:
        y[0] = (y[0] + 1) % 5
    return model, x, y


def fool(perturbation, model, x, y, seed=3, images=None, slots=None):
    images = range(len(x)) if images is None else images
    return perturbation.fool(model, x, y, generator=ImageGenerator(seed, images), slots=slots)


def predicted(model, x):
    modes = [(m, m.training) for m in model.modules()]
    with torch.no_grad():
        answer = model.eval()(x).argmax(1)
    for module, mode in modes:
        module.training = mode
    return answer


def assert_in_ball(perturbation, x, changed):
    """1e-6: x + delta is rounded to float32 once per coordinate."""
    if not isinstance(perturbation, MinimumNormAttack):
        assert GEOMETRIES[perturbation.norm].size(changed.double() - x.double()).max() <= perturbation.eps + 1e-6


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [*((shape, torch.float32) for shape in SHAPES.values()), (SHAPES["image"], torch.float64)],
    ids=[*SHAPES, "float64"],
)
@every_case
def test_outcome_is_like_the_input_in_ball_and_box_and_the_verdict_the_models(name, shape, dtype):
    perturbation, (model, x, y) = case(name), setting(shape, dtype)
    before = x.clone()
    outcome = fool(perturbation, model, x, y)
    assert (outcome.x.shape, outcome.x.dtype, outcome.x.device) == (x.shape, x.dtype, x.device)
    assert not outcome.x.requires_grad and outcome.x.min() >= 0 and outcome.x.max() <= 1
    assert_in_ball(perturbation, x, outcome.x)
    assert torch.equal(outcome.fooled, predicted(model, outcome.x) != y)
    assert torch.equal(x, before)


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


@pytest.mark.parametrize("wrong", [False, True], ids=["some-wrong", "all-wrong"])
@every_case
def test_the_model_is_never_shown_an_empty_batch(name, wrong):
    perturbation, (model, x, y) = case(name), setting()
    fool(perturbation, Refusing(model), x, (predicted(model, x) + 1) % 5 if wrong else y, slots=4)


@pytest.mark.parametrize("generator", ["image", "plain", "global"])
@every_case
def test_same_seed_same_bytes(name, generator):
    perturbation, (model, x, y) = case(name), setting()

    def once(seed):
        torch.rand(1)  # the global generator moves on, and is nobody's business if another is given
        if generator == "global":
            torch.manual_seed(seed)
        generators = {"image": ImageGenerator(seed, range(6)), "plain": torch.Generator().manual_seed(seed)}
        return perturbation(model, x, y, generator=generators.get(generator))

    assert torch.equal(once(7), once(7))
    draws = isinstance(perturbation, (Square, ZOO, Boundary, HopSkipJump))
    assert not draws or not torch.equal(once(7), once(8))


@pytest.mark.parametrize("rows", [[4], [3, 1], [5, 4, 3, 2, 1, 0]], ids=str)
@every_case
def test_an_image_does_not_notice_its_batch(name, rows):
    """In float64. Libraries compute in float32 and say so: 1e-5 for what they make of roundings of 1e-7."""
    perturbation, (model, x, y) = case(name), setting(dtype=torch.float64)
    images = torch.tensor([10, 3, 25, 7, 99, 0])
    together = fool(perturbation, model, x, y, images=images)
    alone = fool(perturbation, model, x[rows], y[rows], images=images[rows])
    ours = isinstance(perturbation, (Square, AutoAttack))
    torch.testing.assert_close(alone.x, together.x[rows], rtol=0, atol=1e-10 if ours else 1e-5)
    assert torch.equal(alone.fooled, together.fooled[rows])


@every_case
def test_slots_do_not_matter(name):
    """As above, and the forward passes of ours neither."""
    perturbation, (model, x, y) = case(name), setting(dtype=torch.float64)
    whole, parts = fool(perturbation, model, x, y), fool(perturbation, model, x, y, slots=2)
    ours = isinstance(perturbation, (Square, AutoAttack))
    torch.testing.assert_close(whole.x, parts.x, rtol=0, atol=1e-10 if ours else 1e-5)
    assert not ours or torch.equal(whole.forwards, parts.forwards)


@every_case
def test_the_progress_bar_ends_full(name):
    perturbation, (model, x, y) = case(name), setting()
    done = []
    attack(perturbation, model, x, y, generator=ImageGenerator(0, range(6)), slots=2, advance_bar=done.append)
    assert sum(done) == 6


@every_case
def test_waveforms_have_their_own_box(name):
    perturbation, (model, x, y) = case(name), setting((5, 37))
    wave = dataclasses.replace(perturbation, low=-1.0)
    x = 2 * x - 1
    y = predicted(model, x)
    outcome = fool(wave, model, x, y)
    assert outcome.x.min() >= -1 and outcome.x.max() <= 1 and outcome.x.min() < -0.3
    assert torch.equal(outcome.fooled, predicted(model, outcome.x) != y)
    assert_in_ball(wave, x, outcome.x)
    assert (outcome.x != x).any()


@every_case
def test_the_model_and_the_global_random_state_are_left_as_found(name):
    perturbation, (model, x, y) = case(name), setting()
    before, state = snapshot(model), torch.get_rng_state()
    fool(perturbation, model, x, y)
    assert snapshot(model) == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@every_case
def test_works_where_gradients_are_off(name, context):
    perturbation, (model, x, y) = case(name), setting()
    expected = fool(perturbation, model, x, y).x
    with context():
        assert torch.equal(fool(perturbation, model, x + 0, y + 0).x, expected)


@every_case
def test_inputs_and_labels_that_would_be_silently_wrong_are_refused(name):
    perturbation, (model, x, y) = case(name), setting()
    for message, inputs, labels in (
        (r"must be in \[0, 1\]", x + 0.5, y),
        ("float32 or float64", x.half(), y),
        ("the model has 5 classes", x, y + 3),
    ):
        with pytest.raises(NetprobeError, match=message):
            fool(perturbation, model, inputs, labels)


@pytest.mark.parametrize("name", [n for n, p in CASES.items() if p.strength == "eps"])
def test_eps_zero_is_the_identity_to_the_last_bit(name):
    perturbation, (model, x, y) = dataclasses.replace(case(name), eps=0), setting()
    outcome = fool(perturbation, model, x, y)
    assert torch.equal(outcome.x, x) and outcome.x.data_ptr() != x.data_ptr()
    assert outcome.fooled.tolist() == [True] + 5 * [False]


@pytest.mark.parametrize("cls", [c for c in PERTURBATIONS.values() if issubclass(c, StandingAttack)])
def test_classes_are_specs_values_and_json(cls):
    made = cls(EPS["linf"] if cls.strength == "eps" else "l2")
    assert parse(to_spec(made)) == made
    told = json.loads(json.dumps(describe(made)))
    assert PERTURBATIONS[told.pop("perturbation")](**told) == made
    assert (eps_of(made) == EPS["linf"]) == (cls.strength == "eps")
    assert all(f.metadata["help"] for f in dataclasses.fields(cls))


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

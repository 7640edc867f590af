"""Perturbations as text and JSON, sweeps, and users' own callables."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass

import pytest
import torch

from netprobe.errors import NetprobeError
from netprobe.fields import literal
from netprobe.perturb import (
    BIM,
    FGSM,
    PERTURBATIONS,
    PGD,
    GaussianNoise,
    SaltAndPepper,
    UniformNoise,
    apply,
    describe,
    eps_of,
    family,
    parse,
    resolve,
    sweep,
    to_spec,
)

SPECS = {
    "gaussian:std=0.1": GaussianNoise(0.1),
    "gaussian:std=0.1,low=-1,clip=false": GaussianNoise(0.1, clip=False, low=-1.0),
    "uniform:eps=8/255": UniformNoise(8 / 255),
    "salt-and-pepper:amount=0": SaltAndPepper(0),
    "fgsm:eps=1": FGSM(1),
    "bim:eps=0.05,step_size=1e-05": BIM(0.05, step_size=1e-5),
    "pgd:eps=8/255": PGD(8 / 255),
    "pgd:eps=1.5,steps=50,restarts=3,norm=l2,loss=cw": PGD(1.5, norm="l2", loss="cw", steps=50, restarts=3),
    "pgd:eps=8/255,target=random": PGD(8 / 255, target="random"),
    "pgd:eps=8/255,target=3": PGD(8 / 255, target=3),
    "pgd:eps=8/255,random_start=false": PGD(8 / 255, random_start=False),
}


def brighter(model, x, y, *, generator):
    return (x + 0.1).clamp(max=1)


@dataclass(frozen=True)
class Shift:
    """A user's own perturbation, as good as ours."""

    pixels: int
    eps: float = 0.5
    how: object = torch.roll

    def __call__(self, model, x, y, *, generator):
        return self.how(x, self.pixels, -1)


@pytest.mark.parametrize(("spec", "perturbation"), SPECS.items(), ids=SPECS)
def test_parse_and_to_spec_are_inverse(spec, perturbation):
    assert parse(spec) == perturbation
    assert to_spec(perturbation) == spec
    assert parse(to_spec(perturbation)) == perturbation


@pytest.mark.parametrize("value", [1 / 3, math.pi / 10, 0.1, 5e-324, 8 / 255, 254.5 / 255, 51 / 255, 1e-7])
def test_specs_keep_every_bit(value):
    assert parse(to_spec(PGD(value))).eps == value


def test_spaces_and_explicit_defaults_are_fine():
    assert parse(" pgd: eps = 8/255 , target=none, step_size=none ") == PGD(8 / 255)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pdg:eps=8/255", "unknown perturbation 'pdg': did you mean 'pgd'"),
        ("", "unknown perturbation ''"),
        ("pgd:epz=8/255", "unknown setting of pgd 'epz': did you mean 'eps'.*steps, step_size"),
        ("fgsm:eps=0.1,steps=3", "unknown setting of fgsm 'steps'"),
        ("pgd", "pgd needs its eps: for instance pgd:eps=8/255"),
        ("gaussian:clip=false", "gaussian needs its std"),
        ("pgd:eps=8", "did you mean 8/255"),
        ("pgd:eps=8/0", "'8/0' divides by zero"),
        ("pgd:eps=__import__('os')", "PGD.eps must be a number"),
        ("pgd:eps=1/2/3", "PGD.eps must be a number"),
        ("pgd:eps=nan", "PGD.eps must be a number in"),
        ("pgd:eps=0.1,eps=0.2", "eps is given twice"),
        ("pgd:0.1", "write setting=value"),
        ("pgd:eps=", "write setting=value"),
        ("pgd:eps=0.1,steps=2.5", "PGD.steps must be a whole number, 1 or more, not 2.5"),
        ("pgd:eps=0.1,steps=0", "PGD.steps must be a whole number"),
        ("pgd:eps=0.1,norm=l3", "unknown PGD.norm 'l3'.*linf"),
        ("pgd:eps=0.1,target=likely", "unknown PGD.target 'likely': did you mean 'least-likely'.*class number"),
        ("pgd:eps=0.1,target=-1", "unknown PGD.target -1"),
        ("pgd:eps=0.1,random_start=1", "PGD.random_start must be True or False"),
        ("pgd:eps=0.1,random_start=no", "PGD.random_start must be True or False"),
        ("pgd:eps=0.1,random_start=false,restarts=2", "without random_start would repeat one search"),
    ],
)
def test_mistakes_in_specs_are_named(spec, message):
    with pytest.raises(NetprobeError, match=message):
        parse(spec)


def test_numbers_of_every_kind_become_plain_ones():
    from fractions import Fraction

    import numpy as np

    pgd = PGD(Fraction(8, 255), steps=np.int64(5), step_size=np.float32(0.5))
    assert pgd == PGD(8 / 255, steps=5, step_size=0.5)
    assert [type(v) for v in (pgd.eps, pgd.steps, pgd.step_size)] == [float, int, float]


@pytest.mark.parametrize("cls", PERTURBATIONS.values(), ids=PERTURBATIONS)
def test_description_is_json_and_complete(cls):
    perturbation = cls(literal(cls.example))
    told = json.loads(json.dumps(describe(perturbation)))
    assert PERTURBATIONS[told.pop("perturbation")](**told) == perturbation


def test_users_callables_are_described_too():
    assert describe(brighter) == {"perturbation": f"{__name__}.brighter"}
    assert describe(Shift(2)) == {"perturbation": f"{__name__}.Shift", "pixels": 2, "eps": 0.5, "how": repr(torch.roll)}
    partial = functools.partial(brighter, generator=None)
    assert describe(partial) == {"perturbation": f"{__name__}.brighter", "arguments": [], "generator": None}
    assert [family(p) for p in (brighter, Shift(2), partial)] == ["brighter", "Shift", "brighter"]
    assert math.isnan(eps_of(brighter)) and eps_of(Shift(2)) == 0.5


def test_a_subclass_is_not_mistaken_for_the_enrolled_class():
    @dataclass(frozen=True, kw_only=True)
    class Mine(PGD):
        pass

    assert describe(Mine(0.1))["perturbation"].endswith("Mine")


def test_family_and_strength():
    assert [family(p) for p in (PGD(0.1), PGD(0.1, norm="l2"), GaussianNoise(0.1))] == [
        "PGD",
        "PGD L2",
        "Gaussian noise",
    ]
    assert [eps_of(p) for p in (PGD(0.1), GaussianNoise(0.2), SaltAndPepper(0.3))] == [0.1, 0.2, 0.3]


def test_repr_is_code_in_the_fields_units():
    assert repr(PGD(8 / 255)) == "PGD(eps=8/255)"
    shown = PGD(0.5, norm="l2", steps=7, target=3, random_start=False)
    assert eval(repr(shown), {"PGD": PGD}) == shown


@pytest.mark.parametrize("perturbation", [*PERTURBATIONS, "pgd:eps=0.1", PGD(0.1), brighter, Shift(1)])
def test_resolve_takes_specs_instances_and_callables(perturbation):
    if perturbation in PERTURBATIONS:
        cls = PERTURBATIONS[perturbation]
        perturbation = cls(literal(cls.example))
    resolved = resolve(perturbation)
    assert resolved == (PGD(0.1) if perturbation == "pgd:eps=0.1" else perturbation)


@pytest.mark.parametrize("wrong", [PGD, None, 0.1, lambda x: x, lambda model, x, y: x])
def test_resolve_refuses_the_rest_early(wrong):
    with pytest.raises(NetprobeError, match=r"PGD\(eps=8/255\), or a function \(model, x, y, \*, generator\)"):
        resolve(wrong)


def test_apply_checks_what_a_users_callable_returns():
    x, y = torch.rand(4, 3, 5, 2), torch.zeros(4, dtype=torch.long)
    assert torch.equal(apply(Shift(1), None, x, y, generator=None), x.roll(1, -1))
    assert not apply(lambda m, x, y, *, generator: x.clone().requires_grad_(), None, x, y, generator=None).requires_grad
    for wrong, message in {
        "x[:2]": r"shape torch.Size\(\[2, 3, 5, 2\]\)",
        "x.double()": "dtype torch.float64",
        "x / 0": "not finite",
        "x.numpy()": "ndarray, not a tensor",
    }.items():
        bad = eval(f"lambda model, x, y, *, generator: {wrong}")
        with pytest.raises(NetprobeError, match=message):
            apply(bad, None, x, y, generator=None)


def test_a_spec_can_be_swept_and_need_not_give_what_is_varied():
    assert sweep("pgd:steps=5", eps=["2/255", 0.1]) == sweep(PGD(0.3, steps=5), eps=[2 / 255, 0.1])
    assert sweep("pgd:eps=0.1", steps=[1, 2]) == sweep(PGD(0.1), steps=[1, 2])
    with pytest.raises(NetprobeError, match="pgd needs its eps"):
        sweep("pgd", steps=[1, 2])
    with pytest.raises(NetprobeError, match="eps is given twice"):
        sweep("pgd:eps=0.1", eps=[0.1, 0.2])
    with pytest.raises(NetprobeError, match="cannot be swept: give a perturbation of netprobe, or its spec"):
        sweep(len, eps=[1])


def test_sweeps_are_named_by_what_varies():
    assert sweep(PGD(8 / 255, steps=5), eps=["0", "2/255", 4 / 255, 0.1]) == {
        "pgd@0": PGD(0, steps=5),
        "pgd@2/255": PGD(2 / 255, steps=5),
        "pgd@4/255": PGD(4 / 255, steps=5),
        "pgd@0.1": PGD(0.1, steps=5),
    }
    assert list(sweep(GaussianNoise(0.1), eps=[0.05, 1 / 30])) == ["gaussian@0.05", "gaussian@0.03333"]
    assert list(sweep(GaussianNoise(0.1), std=[0.1000001, 0.1])) == ["gaussian@0.1000001", "gaussian@0.1"]
    assert sweep(PGD(0.1), steps=[1, 10]) == {"pgd@steps=1": PGD(0.1, steps=1), "pgd@steps=10": PGD(0.1, steps=10)}
    assert list(sweep(PGD(0.1), target=["random", None])) == ["pgd@target=random", "pgd@target=none"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "one setting, not 0"),
        ({"eps": [0.1], "steps": [1]}, "one setting, not 2: eps, steps"),
        ({"epz": [0.1]}, "unknown setting of pgd 'epz'"),
        ({"eps": [0.1, 0.1]}, "occur twice: 0.1, 0.1"),
        ({"eps": [8]}, "did you mean 8/255"),
    ],
)
def test_mistakes_in_sweeps_are_named(settings, message):
    with pytest.raises(NetprobeError, match=message):
        sweep(PGD(0.1), **settings)

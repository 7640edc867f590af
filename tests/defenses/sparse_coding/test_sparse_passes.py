"""The backward passes against slow references, and attacks that use them."""

import pytest
import reference_coding
import torch
from torch import nn

from netprobe.defenses.front_end import BYPASS, Defended
from netprobe.defenses.sparse_coding import Decoder, Encoder, SparseCoding
from netprobe.defenses.sparse_coding.passes import NAMED, WHILE_DROPPING, passes, replaced
from netprobe.errors import NetprobeError
from netprobe.perturb import ImageGenerator
from netprobe.perturb.backward import declared_passes, surrogates
from netprobe.perturb.gradient import PGD

EPS = 8 / 255
CODED = [(name, dropout) for dropout, names in ((0.0, NAMED), (0.5, NAMED | WHILE_DROPPING)) for name in names]


def made(dropout=0.0, **changed):
    torch.manual_seed(3)
    settings = {"channels": 2, "patch": 4, "stride": 2, "atoms": 20}
    encoder = Encoder(**settings, top=6, dropout=dropout, **changed)
    front = SparseCoding(encoder, Decoder(**settings, size=8, widths=(12, 6)))
    for layer in (front.decoder.second, front.decoder.third):
        nn.init.uniform_(layer.bias, 0.05, 0.1)  # a decoder that is not dark where it has learnt nothing
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(128, 5))
    return Defended(front, classifier).double().eval()


@pytest.fixture
def x():
    return torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradient(model, x, name, seed=7):
    """Of a fixed weighting of the logits; with the same random numbers for every pass."""
    point = x.clone().requires_grad_()
    torch.manual_seed(seed)
    with surrogates(model, name):
        (model(point) * torch.arange(1.0, 6)).sum().backward()
    return point.grad


@pytest.mark.parametrize("changed", [{}, {"sign_less": True}, {"quantised": False}, {"sharpness": 8.0, "reach": 1.5}])
@pytest.mark.parametrize(("name", "dropout"), CODED)
def test_gradients_of_the_code_are_those_of_the_reference(name, dropout, changed, x):
    encoder, follow = made(dropout, **changed).front.encoder, replaced(name)
    point = x.clone().requires_grad_()
    torch.manual_seed(7)
    code = encoder(point, follow).dense()
    upstream = torch.randn(code.shape, dtype=torch.float64)
    (found,) = torch.autograd.grad((code * upstream).sum(), point)
    expected_code, expected = reference_coding.coded(x, encoder, drawn(encoder, follow), follow, upstream)
    torch.testing.assert_close(code.detach(), expected_code, rtol=0, atol=1e-12)  # rounding of double precision
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)  # sums of some hundred such terms


def drawn(encoder, follow):
    """The random numbers that the encoder draws after seed 7: of the T largest first, then of the others."""
    if not encoder.dropout:
        return None
    torch.manual_seed(7)
    most = {"top": encoder.top, "topu": int(encoder.reach * encoder.top), "all": encoder.atoms}[follow.support]
    draws = [torch.rand(3, 3, 3, count) for count in (encoder.top, most - encoder.top)]
    return torch.cat(draws, -1) >= encoder.dropout


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_every_pass_has_the_same_values_and_a_gradient_of_its_own(dropout, x):
    model = made(dropout)
    assert declared_passes(model) == passes(bool(dropout))
    torch.manual_seed(7)
    exact = model.classifier(model.front(x)).detach()
    gradients = {}
    for name in declared_passes(model):
        if name != BYPASS:
            torch.manual_seed(7)
            with surrogates(model, name):
                assert torch.equal(model(x.clone().requires_grad_()).detach(), exact)
        gradients[name] = gradient(model, x, name)
        assert gradients[name].abs().max() > 0
    for one in gradients:
        for other in gradients:
            if one < other and {one, other} != {"front-end", BYPASS}:  # of a linear classifier these two agree
                assert not torch.allclose(gradients[one], gradients[other]), (one, other)


def test_the_true_gradient_is_zero(x):
    point = x.clone().requires_grad_()
    made()(point).sum().backward()
    assert not point.grad.any()


def test_the_front_end_as_the_identity_has_the_gradient_of_the_classifier_at_the_decoded_image(x):
    model = made()
    decoded = model.front(x).detach().requires_grad_()
    (model.classifier(decoded) * torch.arange(1.0, 6)).sum().backward()
    assert torch.equal(gradient(model, x, "front-end"), decoded.grad)


def test_the_passes_to_try_can_be_chosen(x):
    model = made()
    model.front.backward_passes = ("smooth-all", "front-end")
    assert declared_passes(model) == ("smooth-all", "front-end")
    with pytest.raises(NetprobeError, match="unknown backward pass 'smooth-undropped'"):
        SparseCoding(model.front.encoder, model.front.decoder, ["smooth-undropped"])
    with pytest.raises(NetprobeError, match="backward pass"):
        SparseCoding(model.front.encoder, model.front.decoder, [])


@pytest.mark.parametrize("loss", ["ce", "cw"])
def test_no_attack_of_the_assumed_size_changes_a_sign(loss, x):
    """Hoelder's inequality, on examples that the attacks really find."""
    model, y = made(), torch.arange(3)
    encoder = model.front.encoder
    clean = encoder(x).dense()
    for name in declared_passes(model):
        attack = PGD(EPS, steps=10, loss=loss, backward=name)
        changed = attack(model, x, y, generator=ImageGenerator(0, range(3)))
        assert (changed - x).abs().max() > EPS / 2
        moved = (encoder.project(changed) - encoder.project(x)).abs()
        assert (moved <= EPS * encoder.lengths() + 1e-12).all()
        assert (clean * encoder(changed).dense() >= 0).all()


@pytest.mark.parametrize(("beta", "changes"), [(0.4, True), (1.0 + 1e-9, False)])
def test_a_dead_zone_of_eps_is_what_it_takes(beta, changes):
    """A coefficient half as large as a change of eps can make it, changed that way."""
    encoder = made(beta=beta).front.encoder
    worst = EPS * encoder.dictionary[:1].sign()
    codes = [encoder(image).dense()[0, 0, 0, 0] for image in (worst / 2, -worst / 2)]
    assert bool(codes[0] * codes[1] < 0) == changes


def test_one_realisation_without_dropout_is_the_non_random_front_end(x):
    model, random = made(), made(dropout=0.5)
    assert (model.front.realisations, model.front.random) == (1, False)
    assert (random.front.realisations, random.front.random) == (10, True)
    random.front.encoder.dropout, random.front.realisations = 0.0, 1
    with torch.no_grad():
        assert torch.equal(model(x), random(x))


def test_images_of_another_size_are_refused():
    with pytest.raises(NetprobeError, match="for images of 8 x 8 pixels, not"):
        made().front(torch.rand(1, 2, 10, 10).double())

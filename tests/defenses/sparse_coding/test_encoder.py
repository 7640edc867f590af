"""The encoder against its equations, and what must hold for every code."""

import pytest
import reference_coding
import torch

from netprobe.defenses.sparse_coding import Decoder, Encoder, SparseCoding
from netprobe.defenses.sparse_coding import encoder as encoders
from netprobe.errors import NetprobeError

TINY = {"channels": 2, "patch": 4, "stride": 2, "atoms": 20, "top": 5}
VARIANTS = [
    {},
    {"sign_less": True},
    {"quantised": False},
    {"top": 20},
    {"top": 20, "eps": 16 / 255},
    {"top": 20, "beta": 0.0},
    {"stride": 1, "patch": 3},
    {"top": 1},
]


def made(**changed):
    torch.manual_seed(3)
    return Encoder(**{**TINY, **changed}).double()


@pytest.fixture
def x():
    return torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("changed", VARIANTS)
def test_it_is_what_the_equations_say(changed, x):
    encoder = made(**changed)
    expected, _ = reference_coding.coded(x, encoder)
    torch.testing.assert_close(encoder(x).dense(), expected, rtol=0, atol=1e-12)  # rounding of double precision


@pytest.mark.parametrize("sign_less", [False, True])
def test_codes_are_few_and_of_the_levels_of_their_atoms(sign_less, x):
    encoder = made(sign_less=sign_less, beta=1.5)
    code = encoder(x).dense()
    assert (code != 0).sum(1).max() <= encoder.top
    lengths = encoder.lengths().view(-1, 1, 1)
    levels = [0 * lengths, lengths] + ([] if sign_less else [-lengths])
    assert torch.stack([code == level for level in levels]).any(0).all()
    assert (code < 0).any() == (not sign_less)


def test_shapes_and_size_of_the_published_network_for_cifar():
    encoder, decoder = Encoder(), Decoder(size=32)
    x = torch.rand(2, 3, 32, 32)
    code = encoder(x)
    assert code.values.shape == code.index.shape == (2, 15, 15, 15)
    assert code.dense().shape == (2, 500, 15, 15)
    assert SparseCoding(encoder, decoder)(x).shape == x.shape
    assert sum(weight.numel() for weight in decoder.parameters()) == 2_673_103


def test_with_every_coefficient_and_no_dead_zone_it_is_the_sign_of_the_projections(x):
    encoder = made(top=20, beta=0.0)
    expected = encoder.project(x).sign() * encoder.lengths()
    assert torch.equal(encoder(x).dense(), expected.permute(0, 3, 1, 2))


def test_atoms_have_unit_length():
    torch.testing.assert_close(made().dictionary.flatten(1).norm(dim=1), torch.ones(20, dtype=torch.float64))


def test_no_change_of_eps_moves_a_projection_further_than_its_share(x):
    encoder, eps = made(), 0.05
    lengths = encoder.lengths()
    worst = eps * encoder.dictionary.sign()  # the change that reaches the bound, for each atom
    reached = (worst.flatten(1) * encoder.dictionary.flatten(1)).sum(1)
    torch.testing.assert_close(reached, eps * lengths)
    change = eps * (2 * torch.rand_like(x) - 1)
    moved = (encoder.project(x + change) - encoder.project(x)).abs()
    assert (moved <= eps * lengths + 1e-12).all()


def test_dropout_keeps_its_share_and_draws_anew(x):
    encoder = made(top=10, dropout=0.7, beta=0.0)
    x = x.repeat(40, 1, 1, 1)
    codes = [encoder(x).dense() for _ in range(2)]
    assert not torch.equal(*codes)
    survivors = (codes[0] != 0).sum(1).double()
    # 1080 patches, each with variance 10 * 0.3 * 0.7: five standard errors of their mean.
    assert survivors.mean().item() == pytest.approx(10 * 0.3, abs=5 * (2.1 / survivors.numel()) ** 0.5)


def test_dropout_does_not_rescale_and_only_drops(x):
    plain = made(top=10)(x).dense()
    dropped = made(top=10, dropout=0.5)(x).dense()
    assert ((dropped == plain) | (dropped == 0)).all()


def test_in_train_mode_it_is_the_same(x):
    encoder = made(dropout=0.5)
    torch.manual_seed(5)
    one = encoder.train()(x).dense()
    torch.manual_seed(5)
    assert torch.equal(one, encoder.eval()(x).dense())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_parts_of_a_batch_give_what_the_whole_gives(dropout, x, monkeypatch):
    encoder = made(dropout=dropout)
    torch.manual_seed(5)
    whole = encoder(x)
    monkeypatch.setattr(encoders, "PROJECTIONS_AT_ONCE", 1)
    torch.manual_seed(5)
    parts = encoder(x)
    assert torch.equal(whole.dense(), parts.dense())


def test_no_more_projections_than_the_limit_are_in_memory(x, monkeypatch):
    seen = []
    encoder = made()
    monkeypatch.setattr(encoders, "PROJECTIONS_AT_ONCE", 2 * 4 * 9 * 20)
    monkeypatch.setattr(encoder, "project", lambda part: seen.append(len(part)) or Encoder.project(encoder, part))
    encoder(x)
    assert seen == [2, 1]


def test_an_image_is_coded_alike_alone_and_in_any_order(x):
    encoder = made()
    code = encoder(x).dense()
    assert torch.equal(encoder(x.flip(0)).dense().flip(0), code)
    assert torch.equal(torch.cat([encoder(one[None]).dense() for one in x]), code)


def test_channels_last_images_and_filters_give_the_same_code(x):
    encoder = made().float()
    code = encoder(x.float()).dense()
    encoder = encoder.to(memory_format=torch.channels_last)
    assert torch.equal(encoder(x.float().contiguous(memory_format=torch.channels_last)).dense(), code)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_values_have_the_dtype_of_the_images(dtype, x):
    assert made().to(dtype)(x.to(dtype)).values.dtype == dtype


def test_what_is_kept_does_not_depend_on_autocast(x):
    encoder = made().float()
    exact = encoder(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder(x.float())
    assert torch.equal(found.index, exact.index)
    assert torch.equal(found.values, exact.values)


def test_uniform_patches_and_black_ones_have_codes():
    encoder = made()
    assert not encoder(torch.zeros(1, 2, 8, 8).double()).values.any()
    assert encoder(torch.ones(1, 2, 8, 8).double()).values.isfinite().all()


@pytest.mark.parametrize(
    ("changed", "shape", "message"),
    [
        ({"top": 21}, None, "top=21 of 20 atoms cannot be kept"),
        ({"top": 0}, None, "choose top from 1 to 20"),
        ({}, (1, 2, 9, 9), "do not tile images of 9.* choose stride=1 or 5"),
        ({}, (1, 2, 8, 9), "do not tile images of 9"),
        ({}, (1, 2, 3, 3), "patches of 4 pixels do not fit into images of 3"),
        ({}, (1, 3, 8, 8), "for images of 2 channels, not for a"),
        ({}, (2, 8, 8), "not for a"),
    ],
)
def test_what_cannot_be_coded_is_an_error(changed, shape, message):
    with pytest.raises(NetprobeError, match=message):
        made(**changed)(torch.rand(shape))

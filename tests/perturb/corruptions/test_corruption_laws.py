"""What every corruption owes its user: the laws of `netprobe.testing`, and more. A class new in CORRUPTIONS is tested
here for free."""

from __future__ import annotations

import pytest
import torch
from test_corruption_references import DETERMINISTIC, pictures, run
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.perturb import ImageGenerator, parse, resolve, sweep, to_spec
from netprobe.perturb.corruptions import BENCHMARK, CORRUPTIONS, EXTRA, SEVERITIES
from netprobe.perturb.corruptions.base import truncated
from netprobe.testing.perturbations import LAWS, PerturbationSubject

COLOUR_ONLY = {"saturate"}
every = pytest.mark.parametrize("name", CORRUPTIONS)


def batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return pictures(shape[0], *shape[2:], channels=shape[1]).to(dtype)


def test_there_are_nineteen_and_fifteen_are_the_benchmark():
    assert (len(CORRUPTIONS), len(BENCHMARK), len(EXTRA)) == (19, 15, 4)
    assert [cls.name for cls in CORRUPTIONS.values()] == [*BENCHMARK, *EXTRA]


SUBJECTS = {
    name: PerturbationSubject(cls(5), ((3, 16, 16), (3, 9, 20), (3, 17, 5))) for name, cls in CORRUPTIONS.items()
}


@pytest.mark.parametrize("law", LAWS, ids=[law.name for law in LAWS])
@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_every_corruption_keeps_the_laws(subject, law):
    if law.applies(subject):
        law(subject)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("severity", [1, 5])
def test_large_images_stay_in_the_box(name, dtype, severity):
    changed = run(CORRUPTIONS[name](severity), batch((1, 3, 64, 70), dtype))
    assert changed.dtype == dtype and changed.min() >= 0 and changed.max() <= 1


@every
def test_every_severity_changes_every_image(name):
    x = batch((12, 3, 32, 32))
    results = [run(CORRUPTIONS[name](severity), x) for severity in SEVERITIES]
    assert all((changed != x).flatten(1).any(1).all() for changed in results)
    assert len({changed.numpy().tobytes() for changed in results}) == 5


@every
@pytest.mark.parametrize("generator", ["image", "plain", "global"])
def test_another_seed_gives_another_result_where_it_draws(name, generator):
    x = batch((3, 3, 32, 32))

    def once(seed: int) -> Tensor:
        torch.manual_seed(seed)
        generators = {"image": ImageGenerator(seed, range(3)), "plain": torch.Generator().manual_seed(seed)}
        return CORRUPTIONS[name](5)(None, x, None, generator=generators.get(generator))

    assert torch.equal(once(7), once(8)) == (name in DETERMINISTIC)


@every
def test_two_images_get_other_noise(name):
    """Two rows of the same pixels differ, unless the corruption draws nothing."""
    x = batch((1, 3, 32, 32)).repeat(2, 1, 1, 1)
    first, second = run(CORRUPTIONS[name](5), x)
    assert torch.equal(first, second) == (name in DETERMINISTIC)


@every
def test_images_may_have_another_range(name):
    """Images of [-1, 1] are corrupted as those of [0, 1] are: float64 keeps thresholds on their side."""
    x = batch((3, 3, 16, 16), torch.float64)
    wide = run(CORRUPTIONS[name](4, low=-1.0), 2 * x - 1)
    torch.testing.assert_close((wide + 1) / 2, run(CORRUPTIONS[name](4), x), rtol=0, atol=1e-10)


@every
def test_grey_images_are_corrupted_or_refused(name):
    x, corruption = batch((2, 1, 16, 18)), CORRUPTIONS[name](5)
    if name in COLOUR_ONLY:
        with pytest.raises(NetprobeError, match=r"saturate is for images \(N, C, H, W\) with C = 3 channels"):
            run(corruption, x)
    else:
        changed = run(corruption, x)
        assert changed.shape == x.shape and not torch.equal(changed, x)


@every
@pytest.mark.parametrize("shape", [(4, 20), (2, 4, 8, 8), (2, 3, 8), (2, 3, 2, 8, 8)], ids=str)
def test_what_is_no_image_is_refused(name, shape):
    with pytest.raises(NetprobeError, match=rf"{name} is for images \(N, C, H, W\)"):
        run(CORRUPTIONS[name](1), torch.zeros(shape))


@every
@pytest.mark.parametrize("severity", [6, 7, -1, 2.5, "3", None, True, float("nan")])
def test_a_severity_that_is_none_is_refused_with_the_choices(name, severity):
    with pytest.raises(NetprobeError, match=r"severity must be 1, 2, 3, 4 or 5, or 0 for unchanged images, not"):
        CORRUPTIONS[name](severity)


@every
def test_specs_and_sweeps(name):
    corruption = parse(f"{name}:severity=3")
    assert (corruption, corruption.family) == (CORRUPTIONS[name](3), name)
    assert to_spec(corruption) == f"{name}:severity=3"
    assert sweep(corruption, severity=[1, 5]) == {f"{name}@1": CORRUPTIONS[name](1), f"{name}@5": CORRUPTIONS[name](5)}
    assert resolve(f"{name}:severity=5,constants=cifar,eight_bit=true").constants == "cifar"
    with pytest.raises(NetprobeError, match=f"{name} needs its severity: for instance {name}:severity=3"):
        parse(name)


@every
def test_tables_have_five_levels(name):
    cls = CORRUPTIONS[name]
    assert all(len(levels) == 5 for levels in cls.levels)
    with pytest.raises(NetprobeError, match=r"unknown .*constants 'cifar100'"):
        cls(2, constants="cifar100")


@every
def test_the_model_is_not_looked_at(name):
    model = nn.Conv2d(3, 2, 3)
    model.register_forward_pre_hook(lambda *_: pytest.fail("the model was run"))
    CORRUPTIONS[name](2)(model, batch((2, 3, 16, 16)), torch.tensor([0, 1]), generator=None)


@every
def test_inputs_that_require_a_gradient_change_nothing(name):
    x, corruption = batch((2, 3, 16, 16)), CORRUPTIONS[name](3)
    watched = run(corruption, x.clone().requires_grad_())
    assert torch.equal(watched, run(corruption, x)) and not watched.requires_grad


@every
def test_constants_follow_the_size_unless_told(name):
    small, large = batch((1, 3, 63, 70)), batch((1, 3, 64, 70))
    told = {which: CORRUPTIONS[name](2, constants=which) for which in ("cifar", "imagenet")}
    for x, which in ((small, "cifar"), (large, "imagenet")):
        assert CORRUPTIONS[name](2).constants_for(x) == which
        assert torch.equal(run(CORRUPTIONS[name](2), x), run(told[which], x))
    assert told["cifar"].level(large) == CORRUPTIONS[name].levels.cifar[1]


@every
def test_eight_bits_are_those_of_the_benchmark_s_files(name):
    x = batch((3, 3, 16, 16))
    exact, stored = run(CORRUPTIONS[name](4), x), run(CORRUPTIONS[name](4, eight_bit=True), x)
    assert torch.equal(stored, truncated(exact))
    assert (exact - stored).max() < 1 / 255 + 1e-6 and (stored - exact).max() < 1e-5


def test_truncation_keeps_what_is_eight_bits_already():
    levels = torch.arange(256).float()
    assert torch.equal(truncated(levels / 255), levels / 255)
    assert torch.equal(truncated((levels[:-1] + 0.98) / 255), levels[:-1] / 255)
    assert torch.equal(truncated(levels / 255 - 1e-7), levels / 255)  # a mean of equal pixels, for instance


NOT_MONOTONE = {
    "elastic_transform": "the affine map is largest at low severities",
    "frost": "from severity 3 on the frost replaces the image instead of being added to it",
    "glass_blur": "severity 3 blurs what severity 2 displaces; it repeats that once less than severity 4",
    "saturate": "severities 1 and 2 take colour away, the others add some",
    "snow": "on large images severity 3 has fewer flakes than severity 2",
    "spatter": "severities 4 and 5 are of mud, not of water",
}


@every
@pytest.mark.parametrize("size", [32, 64])
def test_the_mean_change_grows_with_severity(name, size):
    """For all whose constants make it so; the others are known, and change more at 5 than at 1 unless elastic."""
    x = pictures(16, size, size)
    change = [(run(CORRUPTIONS[name](severity), x) - x).abs().mean().item() for severity in SEVERITIES]
    grows = change == sorted(change)
    assert grows or name in NOT_MONOTONE
    assert change[4] > change[0] or name == "elastic_transform"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_same_result_on_the_gpu(name):
    """1e-5: float32 arithmetic in another order; snow and spatter decide thresholds in float64 on both."""
    x, corruption = batch((4, 3, 32, 32)), CORRUPTIONS[name](4)
    there = run(corruption, x.cuda())
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), run(corruption, x), rtol=0, atol=1e-5)

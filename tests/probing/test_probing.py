"""The probe: what it returns, that it is reproducible, that errors come first."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from tiny import QUIET, ConvNet, affine, assert_same, images, seeded, variables
from torch import Tensor, nn

import netprobe as npb
from netprobe.data import load
from netprobe.errors import NetprobeError
from netprobe.uncertainty import wilson

METRICS = "psr,snr,hoyer,spectrum,correlation"


def probe(models=None, data=None, perturbations="gaussian:std=0.1", metrics=METRICS, sites=None, **settings):
    models = seeded(ConvNet) if models is None else models
    return npb.probe(models, data or images(), perturbations, metrics, sites, **{**QUIET, **settings})


def groups(tree) -> set[str]:
    return {node.path for node in tree.subtree if node.has_data}


# ---------------------------------------------------------------------------------------------- what comes out


def test_one_group_a_model_and_metric():
    tree = probe({"a": seeded(ConvNet), "b": seeded(ConvNet, width=5)}, metrics="psr,hoyer")
    assert groups(tree) == {f"/{model}/{metric}" for model in "ab" for metric in ("accuracy", "psr", "hoyer")}
    assert groups(probe(metrics="psr")) == {"/ConvNet/accuracy", "/ConvNet/psr"}


def test_the_default_metrics():
    tree = npb.probe(seeded(ConvNet), images(), "gaussian:std=0.1", **QUIET)
    expected = {"accuracy", "psr", "snr", "hoyer", "spectrum", "correlation"}
    assert {path.rpartition("/")[2] for path in groups(tree)} == expected


def test_accuracy_by_hand():
    model, data = seeded(ConvNet), images()
    found = probe(model, data, {"dark": lambda model, x, y, *, generator: 0.2 * x}, "psr")["ConvNet/accuracy"]
    model.eval()
    for condition, x in (("clean", data.inputs), ("dark", 0.2 * data.inputs)):
        one = found.sel(condition=condition)
        predicted = model(x).argmax(1).numpy()
        right = predicted == data.labels.numpy()
        np.testing.assert_array_equal(one.prediction, predicted)
        np.testing.assert_array_equal(one.correct, right)
        assert one.accuracy == right.mean()
        np.testing.assert_allclose(one.accuracy_interval, wilson(right.sum(), 20))
    np.testing.assert_array_equal(found.label, data.labels)
    assert found.correct.dtype == np.int8


def test_models_are_probed_in_eval_mode():
    class Noisy(ConvNet):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x), training=self.training)

    trained, evaluated = probe(seeded(Noisy).train()), probe(seeded(Noisy).eval())
    assert_same(trained, evaluated, rtol=1e-6)  # as below, not bit for bit


def test_logits_may_be_wrapped():
    class Wrapped(ConvNet):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": super().forward(x), "features": x}

    # not bit for bit: where memory lies decides how the ends of rows are rounded
    assert_same(probe({"m": seeded(Wrapped)}), probe({"m": seeded(ConvNet)}), rtol=1e-6)


def test_waveforms():
    model = seeded(
        nn.Sequential, nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(68, 3)
    )
    data = load((torch.rand(12, 21) * 2 - 1, torch.arange(12) % 3))
    tree = probe(model, data, {"noise": "gaussian:std=0.1,low=-1", "attack": "fgsm:eps=0.01,low=-1"}, METRICS + ",cka")
    assert tree["Sequential/psr"].site.values.tolist() == ["1", "4"]
    assert tree["Sequential/spectrum/eigenvalues"].sel(site="1").notnull().sum() == 3 * 4  # channels, not samples
    for _, values in variables(tree):
        assert np.isfinite(values.values).any() or "alpha" in str(values.name) or values.name in ("r2", "log_prefactor")


def test_data_may_be_what_load_takes():
    data = images()
    assert_same(probe(data=(data.inputs, data.labels)), probe(data=data))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_models_that_view_or_overwrite_their_activations(dtype):
    """`view` fails on channels-last tensors, and in-place operations must not reach the images kept for kernels."""

    class Plain(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4 * 4 * 3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(2 * x - 1).relu().flatten(1))

    class Careless(Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x.mul_(2).sub_(1)).relu_()
            return self.head(x.view(len(x), -1))

    for channels in (1, 3):
        data = images(shape=(channels, 6, 5))
        expected, found = (
            probe(
                {"m": seeded(cls, channels)}, data, ["gaussian:std=0.1", "bim:eps=0.1,steps=2"], "psr,cka", dtype=dtype
            )
            for cls in (Plain, Careless)
        )
        # the convolution of another memory format sums in another order; an attack's sign may flip at a gradient of 0
        assert_same(found, expected, rtol=1e-3 if dtype == "float32" else 1e-9)


def test_a_model_without_parameters():
    model = nn.Sequential(nn.Flatten(), nn.Softmax(1))
    tree = probe(model, metrics="psr", sites="all")
    assert tree["Sequential/psr"].site.values.tolist() == ["0", "1", "output"]
    assert_same(probe(model, metrics="psr", sites="all", dtype="float64"), tree, rtol=1e-5)


# ---------------------------------------------------------------------------------------------- randomness


def test_the_same_call_gives_the_same_bytes(tmp_path):
    """Bitwise, whatever the global random state; also attacks with random starts and callables that draw themselves."""

    def own(model, x, y, *, generator):
        return (x + 0.1 * torch.rand(x.shape, generator=generator) + 0.1 * torch.rand_like(x)).clamp(0, 1)

    named = {"noise": "gaussian:std=0.1", "pgd": "pgd:eps=0.1,steps=2", "own": own}
    trees = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        trees.append(probe(data=images(), perturbations=named, metrics="psr,hoyer"))
    assert_same(*trees)
    files = [npb.save_results(tree, tmp_path / f"{i}.nc").read_bytes() for i, tree in enumerate(trees)]
    assert files[0] == files[1]


@pytest.mark.parametrize("perturbation", ["gaussian:std=0.1", "uniform:eps=0.1", "salt-and-pepper:amount=0.2"])
def test_noise_does_not_depend_on_the_batch_size(perturbation):
    """In float64 to its rounding; in float32 to that of the model, 1e-6, and a little more in exponents."""
    for dtype, rtol in (("float64", 1e-10), ("float32", 1e-4)):
        trees = [probe(perturbations=perturbation, batch_size=size, dtype=dtype) for size in (20, 7, 1)]
        for tree in trees[1:]:
            assert_same(tree, trees[0], rtol)


def test_attacks_in_float64_do_not_depend_on_the_batch_size():
    trees = [probe(perturbations="pgd:eps=0.05,steps=3", batch_size=size, dtype="float64") for size in (20, 7)]
    assert_same(*trees, rtol=1e-10)


def test_noise_belongs_to_the_image_of_the_data_set():
    """A shard sees the noise that the whole sees."""
    whole = probe(metrics="psr")
    part = npb.gather(seeded(ConvNet), images(), "gaussian:std=0.1", "psr", shard="1/2", **QUIET).compute()
    assert part["ConvNet/psr"].image.values.tolist() == list(range(10, 20))
    np.testing.assert_allclose(part["ConvNet/psr/psr"], whole["ConvNet/psr/psr"].sel(image=slice(10, None)), rtol=1e-4)


def test_seeds_and_names_choose_the_draws():
    def psr(**settings) -> np.ndarray:
        return probe(metrics="psr", **settings)["ConvNet/psr/psr"].values

    base = psr(perturbations={"a": "gaussian:std=0.1"})
    assert (psr(perturbations={"a": "gaussian:std=0.1"}) == base).all()
    assert (psr(perturbations={"a": "gaussian:std=0.1"}, seed=1) != base).any()
    assert (psr(perturbations={"b": "gaussian:std=0.1"}) != base).any()  # two noises beside each other are independent
    both = psr(perturbations={"b": "gaussian:std=0.1", "a": "gaussian:std=0.1"})
    np.testing.assert_allclose(both[1:], base, rtol=1e-4)  # whatever else is probed


def test_strengths_of_a_sweep_share_their_draws():
    found: dict[str, Tensor] = {}

    def keep(name: str, model, x, y, *, generator) -> Tensor:
        found[name] = torch.rand(x.shape, generator=generator)
        return x

    names = ("noise@0.1", "noise@0.2", "other@0.1")
    probe(perturbations={name: functools.partial(keep, name) for name in names}, metrics="psr", batch_size=20)
    assert torch.equal(found["noise@0.1"], found["noise@0.2"])
    assert not torch.equal(found["noise@0.1"], found["other@0.1"])


# ---------------------------------------------------------------------------------------------- perturbations


def test_a_callable_of_ones_own():
    """It sees the model, the images, the labels and a generator that knows the images."""
    data = images()

    def own(model, x, y, *, generator):
        assert isinstance(model, ConvNet) and not model.training
        assert torch.equal(x, data.inputs[generator.images]) and torch.equal(y, data.labels[generator.images])
        return x / 2

    found = probe(affine_model(), data, own, "psr", batch_size=7)
    np.testing.assert_allclose(found["ConvNet/psr/psr"].sel(site="conv1"), 0.5, rtol=1e-5)


def affine_model() -> ConvNet:
    model = seeded(ConvNet)
    model.conv1.bias.data.zero_()
    return model


def test_a_callable_that_overwrites_its_input_does_not_change_the_clean_images():
    found = probe(affine_model(), images(), [lambda model, x, y, *, generator: x.mul_(0.5), "gaussian:std=0.1"], "psr")
    expected = probe(affine_model(), images(), "gaussian:std=0.1", "psr")
    np.testing.assert_allclose(found["ConvNet/psr/psr"].sel(site="conv1")[0], 0.5, rtol=1e-5)
    np.testing.assert_allclose(found["ConvNet/psr/psr"][1], expected["ConvNet/psr/psr"][0], rtol=1e-4)


def test_gradients_are_on_in_perturbations_of_ones_own():
    def ascend(model, x, y, *, generator):
        with torch.enable_grad():
            x = x.requires_grad_()
            nn.functional.cross_entropy(model(x), y).backward()
        return (x + 0.01 * x.grad.sign()).clamp(0, 1)

    found = probe(perturbations=ascend, metrics="psr", dtype="float64")
    expected = probe(perturbations="fgsm:eps=0.01", metrics="psr", dtype="float64")
    np.testing.assert_allclose(found["ConvNet/psr/psr"], expected["ConvNet/psr/psr"], rtol=1e-9)


def test_names_of_perturbations():
    def conditions(perturbations: object) -> list[str]:
        return probe(perturbations=perturbations, metrics="psr")["ConvNet/psr"].perturbation.values.tolist()

    assert conditions("gaussian:std=0.1") == ["gaussian"]
    assert conditions(npb.GaussianNoise(0.1)) == ["gaussian"]
    assert conditions(["gaussian:std=0.1", "fgsm:eps=0.1", npb.GaussianNoise(0.2)]) == [
        "gaussian",
        "fgsm",
        "gaussian-2",
    ]
    assert conditions({"mine": "gaussian:std=0.1"}) == ["mine"]
    assert conditions(npb.sweep(npb.GaussianNoise(0.1), std=[0.1, 0.2])) == ["gaussian@0.1", "gaussian@0.2"]


# ---------------------------------------------------------------------------------------------- errors


def work(model, x, y, *, generator):
    raise AssertionError("work before the error")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": {}}, "no models given"),
        ({"models": {"a": "resnet18"}}, "model 'a' is a str, not an nn.Module; netprobe.load makes one"),
        ({"models": {"a/b": ConvNet()}}, "'a/b' cannot name a model"),
        ({"models": {"": ConvNet()}}, "cannot name a model"),
        ({"models": {"preflight": ConvNet()}}, "cannot name a model"),
        ({"perturbations": {}}, "no perturbations given"),
        ({"perturbations": []}, "no perturbations given"),
        ({"perturbations": {"clean": work}}, "'clean' names the unperturbed images"),
        ({"perturbations": "gausian:std=0.1"}, "unknown perturbation 'gausian': did you mean 'gaussian'"),
        ({"perturbations": [work, "pgd:epsilon=0.1"]}, "unknown setting of pgd 'epsilon'"),
        ({"perturbations": npb.PGD}, "is not a perturbation"),
        ({"perturbations": lambda x: x}, "cannot be called as a perturbation"),
        ({"metrics": "psr,spectrun"}, "unknown metric 'spectrun': did you mean 'spectrum'"),
        ({"metrics": ["psr", npb.PSR()]}, "give each metric once"),
        ({"sites": "conv7"}, "unknown site pattern 'conv7': did you mean 'conv[12]'"),
        ({"metrics": [npb.PSR(sites="conv7")]}, "unknown site pattern 'conv7'"),
        ({"metrics": "cka", "memory": "10B"}, "memory=10 bytes is below the 160 that one unit of 20 images needs"),
        ({"metrics": [npb.CrossValidatedSpectrum(repeats=("a", "b"))]}, "repeats= names two perturbations"),
        ({"metrics": "psr,cka", "shard": "0/2"}, "need all images in one part"),
        ({"batchsize": 3}, "unknown setting of probe 'batchsize': did you mean 'batch_size'"),
        ({"shard": "3/2"}, "write i/n"),
        ({"dtype": "half"}, "unknown dtype 'half'"),
        ({"data": "cifar11"}, "cifar1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_errors_come_before_any_work(arguments, message):
    with pytest.raises(NetprobeError, match=message):
        probe(**{"perturbations": work, **arguments})


def test_perturbations_that_return_nonsense_are_errors():
    for nonsense, message in ((lambda x: x[:1], "shape"), (lambda x: x.double(), "dtype"), (lambda x: x / 0, "finite")):
        with pytest.raises(NetprobeError, match=message):
            probe(perturbations=lambda model, x, y, *, generator, nonsense=nonsense: nonsense(x))


# ---------------------------------------------------------------------------------------------- the pre-flight


class Sociable(ConvNet):
    """Subtracts what the images of a batch have in common."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True))


def test_models_whose_samples_interact_are_probed_condition_by_condition():
    settings = {"data": images(), "metrics": "psr", "batch_size": 20}
    apart, together = (probe(seeded(Sociable), paired=paired, **settings) for paired in (False, True))
    checked = probe(seeded(Sociable), preflight=True, **settings)
    assert "interaction" in checked["preflight/check"].values
    np.testing.assert_array_equal(checked["Sociable/psr/psr"], apart["Sociable/psr/psr"])
    assert not np.allclose(together["Sociable/psr/psr"], apart["Sociable/psr/psr"], rtol=1e-3)


def test_findings_come_with_the_results_and_are_errors_if_strict():
    settings = {"models": {"m": nn.Sequential(nn.Flatten(), nn.Linear(90, 4), nn.Softmax(1))}, "metrics": "psr"}
    found = probe(preflight=True, **settings)["preflight"]
    assert set(found.data_vars) == {"model", "severity", "check", "evidence", "remedy"}
    assert (found.model == "m").all() and found.sizes["finding"]
    with pytest.raises(NetprobeError):
        probe(
            preflight=True,
            strict=True,
            perturbations=work,
            **{k: v for k, v in settings.items() if k != "perturbations"},
        )


def test_progress_goes_to_stderr_if_asked_for(capsys):
    probe(metrics="psr,cka")
    assert capsys.readouterr() == ("", "")
    probe(metrics="psr,cka", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "ConvNet" in err and "20/20" in err and "kernels 1" in err


def test_the_input_is_a_site_like_others():
    model = nn.Sequential(nn.Flatten(), affine(torch.eye(4, 90)))
    found = probe(model, images(), {"dim": lambda model, x, y, *, generator: 0.9 * x}, "psr,snr", sites="input,1:in")
    np.testing.assert_allclose(found["Sequential/psr/psr"].sel(site="input"), 0.1, rtol=1e-5)
    assert found["Sequential/snr"].site.values.tolist() == ["input", "1:in"]
    np.testing.assert_allclose(found["Sequential/snr/snr_db"], 20, rtol=1e-5)

"""Training on a GPU: it learns, goes on from an interruption, and never waits for the device inside a step."""

import itertools
import signal

import pytest
import torch

from netprobe import data
from netprobe.defenses.regularisers.similarity.pair_stream import PairStream
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.ranges import SimilarityRange
from netprobe.training import fit, loop
from netprobe.training.loop import Loop
from netprobe.training.optimizer import set_rates

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEFENSES = ["natural", "pgd-at:eps=0.1,steps=3", "fast:eps=0.1", "trades:eps=0.1,steps=3", "gaussian:std=0.1"]


def train(defense="natural", **settings):
    """digits_cnn on all training digits."""
    settings = {"epochs": 10, "batch_size": 64, "validation": 0.1} | settings
    images = data.load("digits", "train")
    return fit(defense, "digits_cnn", images, "quick", device="cuda", progress=False, **settings)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("defense", DEFENSES)
def test_every_defense_learns_digits_in_every_precision(defense, precision):
    trained = train(defense, precision=precision)
    assert next(trained.model.parameters()).is_cuda
    assert all(parameter.dtype == torch.float32 for parameter in trained.model.parameters())
    assert trained.history["validation_accuracy"].max() > 0.9
    assert trained.history["loss"][-1] < trained.history["loss"][0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_regularised_trainings_learn_digits_too(precision):
    terms = ["l2", "jacobian:site=output,coupling=1e-4", "spectral:site=linear:in,tau=3,coupling=1e-3", "spectral-norm"]
    trained = train("natural", precision=precision, regularise=terms)
    assert trained.history["validation_accuracy"].max() > 0.9
    for name in ("l2", "jacobian", "spectral", "spectral_norm"):
        assert trained.history[name].notnull().all()


@pytest.mark.parametrize("chosen", [SimilarityRange(0.5), SimilarityRange(0.85, "high_positive")])
def test_pairs_of_images_on_the_device_are_those_of_images_on_the_cpu(chosen):
    images = data.load("digits", "train", limit=60).inputs
    one, other = (PairStream(PixelSimilarity(x), chosen, 0).take(0, 50) for x in (images, images.cuda()))
    assert torch.equal(one.first, other.first) and torch.equal(one.second, other.second)
    torch.testing.assert_close(one.target, other.target)


def test_similarity_is_regularised_on_the_device():
    trained = train("similarity:count=200,threshold=none,coupling=0.1", epochs=2)
    assert trained.history["similarity"].notnull().all()


def test_a_seed_fixes_the_noise_of_a_step_and_every_step_has_its_own(monkeypatch):
    drawn = []
    made = Loop._noise

    def noise(self, *given):
        generator = made(self, *given)
        drawn.append(torch.rand(3, generator=generator, device="cuda").tolist())
        return generator

    monkeypatch.setattr(Loop, "_noise", noise)
    for _ in range(2):
        train("gaussian:std=0.1", epochs=2)
    first, second = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert first == second
    assert len({tuple(numbers) for numbers in first}) == len(first)


@pytest.mark.parametrize("defense", DEFENSES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_step_but_the_first_waits_for_the_device(defense, precision, monkeypatch):
    step, numbers = Loop._step, itertools.count()

    def watched(self, batch):
        torch.cuda.set_sync_debug_mode("default" if next(numbers) == 0 else "error")
        try:
            step(self, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Loop, "_step", watched)
    train(defense, precision=precision, epochs=1)


@pytest.mark.parametrize("defense", ["natural", "fast:eps=0.1"])
def test_an_interrupted_training_goes_on(defense, tmp_path, monkeypatch):
    """Not to the last bit: sums on a GPU are made in any order."""
    calls = itertools.count(1)

    def set_or_stop(*rates):
        if next(calls) == 50:
            signal.raise_signal(signal.SIGINT)
        set_rates(*rates)

    monkeypatch.setattr(loop, "set_rates", set_or_stop)
    with pytest.raises(KeyboardInterrupt):
        train(defense, out=tmp_path)
    trained = train(defense, out=tmp_path)
    steps = 10 * -(-round(0.9 * len(data.load("digits", "train"))) // 64)
    assert steps <= next(calls) - 1 <= steps + 1  # none was made twice
    assert trained.history["epoch"].values.tolist() == list(range(1, 11))
    assert trained.history["validation_accuracy"].max() > 0.9


def test_a_network_trained_on_a_gpu_says_the_same_on_a_cpu():
    trained, test = train(), data.load("digits", "test")
    there = trained.model(test.inputs.cuda()).argmax(1).cpu()
    here = trained.model.cpu()(test.inputs).argmax(1)
    assert (there == here).double().mean() > 0.99  # TF32 may turn a close call

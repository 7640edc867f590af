"""Networks that a training keeps on its way, and what is measured of them."""

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_array_equal

import netprobe as npb
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.models import digits_cnn
from netprobe.testing.training import SHORT, differing, killed_after, small_net
from netprobe.testing.training import trained as fitted
from netprobe.uncertainty import bootstrap_interval, wilson

EPOCHS = (0, 1, 3)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return digits_cnn()


def train(network, digits, **settings):
    return fitted("natural", network, digits, SHORT.with_settings(**settings))


def same(one, other):
    return not differing(one.state_dict(), other.state_dict())


def test_kept_networks_are_those_that_shorter_trainings_end_with(network, digits):
    kept = train(network, digits, keep_epochs=EPOCHS).kept
    assert tuple(kept) == EPOCHS and not any(each.training for each in kept.values())
    assert same(kept[0], network)
    assert same(kept[1], train(network, digits, epochs=1).last)
    assert same(kept[3], train(network, digits).last)


def test_keeping_changes_nothing_of_what_is_learnt_and_the_average_is_what_is_kept(network, digits):
    plain, keeping = (train(network, digits, ema=0.5, keep_epochs=epochs) for epochs in ((), EPOCHS))
    assert same(plain.last, keeping.last) and same(plain.model, keeping.model) and plain.kept == {}
    assert same(keeping.kept[3], keeping.last)


@pytest.mark.parametrize("steps", [0, 2, 14])
def test_a_training_that_was_killed_keeps_the_same_networks(steps, digits, tmp_path):
    how = SHORT.with_settings(keep_epochs=EPOCHS)
    whole = fitted("natural", small_net(), digits, how)
    with killed_after(steps):
        fitted("natural", small_net(), digits, how, out=tmp_path)
    again = fitted("natural", small_net(), digits, how, out=tmp_path)
    assert all(same(again.kept[epoch], whole.kept[epoch]) for epoch in EPOCHS)
    assert same(npb.load(small_net(), tmp_path / "epoch-1.pt"), whole.kept[1])


def test_epochs_that_were_not_kept_cannot_be_had_any_more(network, digits, tmp_path):
    fitted("natural", network, digits, SHORT, out=tmp_path)
    with pytest.raises(CheckpointError, match="no network after epoch 0, 1, 3: it was trained without keep_epochs=0,1"):
        fitted("natural", network, digits, SHORT.with_settings(keep_epochs=EPOCHS), out=tmp_path)
    with pytest.raises(NetprobeError, match="keep_epochs=1,9 must be at most 3"):
        SHORT.with_settings(keep_epochs=(1, 9))


def test_what_is_told_of_epochs_is_what_evaluate_and_jacobian_norms_tell(network, digits):
    trained, images = train(network, digits, keep_epochs=EPOCHS), npb.data.load("digits", limit=40)
    found = npb.follow(trained, images, ["conv1", "output"], images=10, progress=False)
    assert_array_equal(found["epoch"], EPOCHS)
    for epoch, each in trained.kept.items():
        with torch.no_grad():
            logits = each(images.inputs)
        right, now = int((logits.argmax(1) == images.labels).sum()), found.sel(epoch=epoch)
        loss = torch.nn.functional.cross_entropy(logits, images.labels)
        assert float(now["accuracy"]) == right / 40
        assert_array_equal(now["accuracy_interval"], wilson(right, 40))
        assert float(now["mean_loss"]) == pytest.approx(float(loss), rel=1e-5)
        norms = npb.jacobian_norms(each, images.take(10), ["conv1", "output"], progress=False)
        assert_array_equal(now["mean_frobenius"], norms["frobenius"].values.mean(-1))
        assert_array_equal(now["mean_frobenius_interval"], bootstrap_interval(norms["frobenius"].values))
    assert found["mean_frobenius"].attrs["units"] == "activation / input" and "image" not in found.dims


def test_without_kept_epochs_there_is_nothing_to_follow(network, digits):
    with pytest.raises(NetprobeError, match="kept no epochs: fit with keep_epochs="):
        npb.follow(train(network, digits), digits)


def test_several_trainings_have_their_mean_and_t_intervals(digits):
    found = {
        f"/net-{seed}/followed": npb.follow(
            train(digits_cnn(), digits, seed=seed, epochs=1, keep_epochs=(0, 1)), digits, images=4, progress=False
        )
        for seed in range(2)
    }
    mean = npb.over_seeds(xr.DataTree.from_dict(found))["net/followed"]
    both = np.stack([each["mean_frobenius"].values for each in found.values()])
    assert_array_equal(mean["mean_frobenius"], both.mean(0))
    assert (mean["mean_frobenius_interval"].values >= 0).all()
    assert npb.plot_followed(mean.to_dataset()).child_axes

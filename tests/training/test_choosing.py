"""Which epoch is the best, by what is to be large and by what is to be small."""

import pytest

from netprobe.training.choosing import best_index, merits, out_of_patience

HISTORY = [
    {"validation_accuracy": accuracy, "validation_loss": loss}
    for accuracy, loss in [(0.2, 2.0), (0.7, 0.9), (0.7, 1.1), (0.6, 0.8), (0.9, 1.5), (0.8, 1.4)]
]


def test_the_best_has_the_largest_accuracy_or_the_smallest_loss():
    assert best_index(HISTORY, "validation_accuracy") == 4
    assert best_index(HISTORY, "validation_loss") == 3
    assert best_index(HISTORY, None) == 5


def test_of_equals_the_first_is_the_best():
    assert best_index(HISTORY[:4], "validation_accuracy") == 1


def test_epochs_before_the_last_stage_do_not_count():
    assert best_index(HISTORY, "validation_loss", first=4) == 5
    assert best_index(HISTORY[:3], "validation_loss", first=4) == 2


def test_patience_counts_epochs_since_the_best():
    assert out_of_patience(HISTORY, "validation_loss", 2) == "stopped after 2 epochs without a better validation_loss"
    assert out_of_patience(HISTORY, "validation_loss", 3) is None
    assert out_of_patience(HISTORY, "validation_accuracy", 2) is None
    assert out_of_patience(HISTORY, "validation_loss", 0) is None


@pytest.mark.parametrize("criterion", ["validation_accuracy", "validation_loss"])
def test_merits_are_largest_where_the_epoch_is_best(criterion):
    found = merits(HISTORY, criterion)
    assert found.index(max(found)) == best_index(HISTORY, criterion)
    assert merits(HISTORY, None) == []

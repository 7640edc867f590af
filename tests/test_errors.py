"""Errors name the value, the valid choices, the closest first, and the remedy."""

from __future__ import annotations

import pytest

from netprobe.errors import CheckpointError, MissingData, NetprobeError, closest, unknown


def test_kinds_of_errors():
    assert issubclass(NetprobeError, ValueError)
    assert issubclass(MissingData, NetprobeError) and issubclass(CheckpointError, NetprobeError)


def test_closest_first():
    assert closest("spectrun", ["psr", "spectrum", "snr"])[0] == "spectrum"
    assert closest("PSR", ["snr", "psr"]) == ["psr", "snr"]  # whatever the case
    assert closest("layer1.conv", [f"layer{i}.conv" for i in range(5)], 2)[0] == "layer1.conv"
    assert len(closest("x", "abcdef", 2)) == 2


def test_unknown_names_value_choices_and_remedy():
    error = unknown("metric", "spectrun", ["psr", "spectrum", "snr"], "See `netprobe --help`.")
    assert isinstance(error, NetprobeError)
    assert str(error) == (
        "unknown metric 'spectrun': did you mean 'spectrum'? valid choices: spectrum, psr, snr. See `netprobe --help`."
    )


@pytest.mark.parametrize(
    ("count", "ending"), [(0, "valid choices: none."), (3, ", 1, 2."), (40, "... (40 in all).")], ids=str
)
def test_long_lists_are_cut_and_say_so(count, ending):
    assert str(unknown("site", "0", range(count))).endswith(ending)

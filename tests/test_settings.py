"""Settings are checked when they are made; sizes and shards are read."""

from __future__ import annotations

import dataclasses

import pytest

from netprobe.errors import NetprobeError
from netprobe.settings import ProbeSettings, in_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 * 2**30), ("500MB", 500 * 10**6), ("1.5 KiB", 1536), ("10B", 10), ("3KB", 3000),
        (" 3 GB ", 3 * 10**9), ("1e3MiB", 1000 * 2**20), ("1000000", 10**6), (4096, 4096),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "two GiB", "2TiB", "2 gib", "infGiB", "nan"])
def test_unreadable_sizes_are_errors(text):
    with pytest.raises(NetprobeError, match="cannot read the size"):
        in_bytes(text)


@pytest.mark.parametrize("images", [1, 7, 100])
@pytest.mark.parametrize("n", [1, 3, 10])
def test_shards_share_out_every_image_once_and_evenly(images, n):
    shares = [ProbeSettings(shard=f"{i}/{n}").share(images) for i in range(n)]
    assert [position for share in shares for position in share] == list(range(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "0/0", "1", "a/b", "0/2/3", ""])
def test_impossible_shards_are_errors(shard):
    with pytest.raises(NetprobeError, match="write i/n with 0 <= i < n"):
        ProbeSettings(shard=shard)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"batch_size": 0}, "batch_size=0: give at least 1"),
        ({"seed": -1}, "seed=-1: give 0 or more"),
        ({"memory": "much"}, "cannot read the size 'much'"),
    ],
)
def test_impossible_settings_are_errors(setting, message):
    with pytest.raises(NetprobeError, match=message):
        ProbeSettings(**setting)


def test_every_setting_explains_itself():
    for field in dataclasses.fields(ProbeSettings):
        assert len(field.metadata["help"]) > 10, field.name

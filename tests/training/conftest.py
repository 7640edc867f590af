"""Small data for training."""

import pytest

from netprobe import data


@pytest.fixture(scope="session")
def digits():
    """Two hundred handwritten digits."""
    return data.load("digits", "train", limit=200)

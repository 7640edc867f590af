"""Few images, for what every defense must be able to learn."""

import pytest

from netprobe import data


@pytest.fixture(scope="session")
def tiny_digits():
    """Eight handwritten digits."""
    return data.load("digits", "train").select(range(8))

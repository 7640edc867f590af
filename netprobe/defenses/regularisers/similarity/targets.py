"""What similarity is drawn towards: that of the pixels, or a matrix of the user's own."""

from __future__ import annotations

from netprobe.defenses.regularisers.similarity.images import Drawn
from netprobe.representations.given import GivenSimilarity, check_images, matrix_hash, read_matrix

PIXELS = "pixels"


def target_hash(target: str) -> str:
    """Of the values of the matrix in the file."""
    return matrix_hash(read_matrix(target, f"target={target!r}"))


def given_similarity(target: str, drawn: Drawn, order: str) -> GivenSimilarity:
    """What the matrix in the file `target` says of the images that were drawn; `order` says in which all must be."""
    what = f"target={target!r}"
    matrix = read_matrix(target, what)
    check_images(matrix, drawn.among, what, order)
    return GivenSimilarity(matrix, drawn.places, what=what)

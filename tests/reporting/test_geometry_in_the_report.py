"""What the verdict says of distances to errors, on the same images."""

import numpy as np
import xarray as xr
from synthetic_geometry import geometry

from netprobe.geometry import compare_distances
from netprobe.reporting.comparing import compare
from netprobe.reporting.verdict import verdict


def tree(factor: float, images: int | None = None) -> xr.DataTree:
    """Two networks, the second `factor` times as far from every error."""
    near, far = geometry()["distances"], geometry()["distances"].isel(image=slice(images))
    for name in ("distance", "critical_eps"):
        far[name] = factor * far[name]
    return xr.DataTree.from_dict({"/near/distances": near, "/far/distances": far})


def test_the_farther_network_is_named_with_its_share_and_its_ratio():
    results = tree(2.0)
    said = list(compare(results, "near", "far"))
    found = compare_distances(results["far/distances"].to_dataset(), results["near/distances"].to_dataset())
    assert len(said) == found.sizes["walk"] == 2
    images = int(found["images"][0])
    start = f"Along random: of the {images} images that both get right far is farther from its first error on 100.0 % ["
    assert said[0].startswith(start) and said[0].endswith("times that of near.")
    assert np.isclose(float(found["ratio"].sel(walk="fgsm")), 2) and " is 2.00 [" in said[1]


def test_other_images_are_not_paired_and_nothing_to_say_has_no_heading():
    results = tree(2.0, images=50)
    assert not list(compare(results, "near", "far"))
    assert "far and near" not in str(verdict(results)) and "Median critical distance" in str(verdict(results))

"""How many images at a time, and seeds."""

from __future__ import annotations

import pytest
import torch

from netprobe.devices import batch_size, seed_everywhere

CPU, GPU = torch.device("cpu"), torch.device("cuda")
CIFAR = (3, 32, 32)


@pytest.mark.parametrize(("widest", "images"), [(16 * 32 * 32, 64), (64 * 32 * 32, 16), (100, 64), (10**7, 4)])
def test_batches_on_a_cpu_fit_the_widest_activation(widest, images):
    """2^21 numbers, clean and perturbed images together, but 8 rows at least and 128 at most."""
    assert batch_size(CIFAR, 2, CPU, widest) == images
    assert images in (4, 64) or 2 * images * widest == 2**21


@pytest.mark.parametrize(("device", "images"), [(CPU, 32), (GPU, 512)])
def test_batches_by_the_input_alone(device, images):
    assert batch_size(CIFAR, 2, device) == images


def test_a_gpu_is_filled_by_inputs_however_wide_the_network_is():
    assert batch_size((3, 224, 224), 2, GPU, 10**7) == batch_size((3, 224, 224), 2, GPU) == 27


def test_conditions_share_a_batch_and_there_is_always_an_image():
    assert batch_size(CIFAR, 64, CPU) == batch_size(CIFAR, 1000, CPU, 100) == 1


def test_seeding_is_that_of_torch():
    draws = []
    for seed in (torch.manual_seed, seed_everywhere):
        seed(7)
        draws.append(torch.rand(5))
    assert torch.equal(*draws)

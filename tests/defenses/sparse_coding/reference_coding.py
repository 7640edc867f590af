"""The equations of sparse coding one by one, in loops, in double precision: slow and obvious."""

import math

import torch

ROUND = torch.float64


def patches(x, size, stride):
    """Every patch of every image: a list of (image, row, column, vector)."""
    found = []
    for image in range(len(x)):
        for row in range((x.shape[2] - size) // stride + 1):
            for column in range((x.shape[3] - size) // stride + 1):
                top, left = row * stride, column * stride
                found.append((image, row, column, x[image, :, top : top + size, left : left + size].flatten()))
    return found


def coded(x, encoder, masks=None, follow=None, upstream=None):
    """The code (N, L, m, m) of x and, if `follow` is the replaced gradients, d <code, upstream> / dx.

    `masks` (N, m, m, K): what dropout keeps of the K largest coefficients, the largest first.
    """
    x, atoms = x.to(ROUND), encoder.dictionary.to(ROUND).flatten(1)
    size, stride, j = encoder.patch, encoder.stride, encoder.beta * encoder.eps
    across = (x.shape[2] - size) // stride + 1
    code, slope = torch.zeros(len(x), len(atoms), across, across, dtype=ROUND), torch.zeros_like(x)
    for image, row, column, patch in patches(x, size, stride):
        projections = [float(atom @ patch) for atom in atoms]
        ranked = sorted(range(len(atoms)), key=lambda number: -abs(projections[number]))
        for rank, number in enumerate(ranked):
            length = float(atoms[number].abs().sum())
            a = abs(projections[number]) if encoder.sign_less else projections[number]
            kept = True if masks is None or rank >= masks.shape[-1] else bool(masks[image, row, column, rank])
            left = a if rank < encoder.top and kept else 0.0
            r = left / length
            code[image, number, row, column] = (sign(r - j) + sign(r + j)) / 2 * length if encoder.quantised else left
            if follow is not None:
                reach = {"top": encoder.top, "topu": encoder.reach * encoder.top, "all": len(atoms)}[follow.support]
                passes = rank < reach and (kept or follow.undropped)
                inner = sign(projections[number]) if encoder.sign_less else 1.0
                k = encoder.sharpness
                curve = (k / math.cosh(k * (r - j)) ** 2 + k / math.cosh(k * (r + j)) ** 2) / 2
                gain = (curve if follow.quantiser == "smooth" and encoder.quantised else 1.0) * inner * passes
                top, left_edge = row * stride, column * stride
                slope[image, :, top : top + size, left_edge : left_edge + size] += (
                    upstream[image, number, row, column] * gain * atoms[number].view(-1, size, size)
                )
    return code, slope


def sign(value):
    return (value > 0) - (value < 0)

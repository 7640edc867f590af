"""Any network with HaH blocks in the place of its first blocks."""

from __future__ import annotations

import copy

from torch import nn

from netprobe.defenses.hah.blocks import HaHBlock, StandardBlock
from netprobe.defenses.hah.convolution import NormalizedConv2d
from netprobe.defenses.hah.divisive import DivisiveNorm
from netprobe.defenses.hah.finding import Group, described, find_groups
from netprobe.defenses.hah.threshold import AdaptiveThreshold
from netprobe.errors import NetprobeError, unknown

NORMS = ("divisive", "batch")
STANDARDS = ("own", "normalised")


def convert(
    model: nn.Module,
    blocks: int = 6,
    *,
    standard: str = "own",
    norm: str = "divisive",
    pool: int = 3,
    sigma: float = 0.1,
    rule: str = "keep",
    keep: float = 0.2,
    top: float = 0.1,
) -> nn.Module:
    """A copy of `model` whose first `blocks` groups of convolution, batch norm and ReLU are HaH blocks.

    Parameters
    ----------
    model : any network in which `find_groups` finds enough groups: conv-BN-ReLU, conv-ReLU-BN or conv-ReLU. It stays
        as it is.
    blocks : how many; 0: none.
    standard : what becomes of the other groups: "own", nothing; "normalised", the paper's standard block, conv / ||w||
        -> ReLU -> batch norm (which comes behind ReLU, whatever it did).
    norm : of the HaH blocks: "divisive" (`DivisiveNorm` with pool and sigma) or "batch", the ablation.
    rule, keep : of `AdaptiveThreshold`; rule="none" is the ablation.
    top : share of the channels that the HaH loss raises.

    The block is where the convolution was, with its weights; its bias is dropped. Batch norms of new blocks begin anew.
    nn.Identity is where batch norm and ReLU were, so that all other names stay; a ReLU that other layers share, or that
    is a function, stays behind the block, whose outputs are not negative. No random number is drawn.

    Errors: fewer groups than blocks, naming those found; a ReLU that cannot be taken out behind a block with negative
    outputs (batch norm); a layer of so few channels that none is left to be lowered.

    >>> from netprobe import models
    >>> from netprobe.defenses import hah
    >>> net = hah.convert(models.digits_cnn(), blocks=2)
    >>> net.conv1
    HaHBlock(
      top=0.1
      (conv): NormalizedConv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
      (norm): DivisiveNorm(pool=3, sigma=0.1)
      (threshold): AdaptiveThreshold(rule=keep, keep=0.2)
    )
    """
    _check(blocks, standard, norm)
    made = copy.deepcopy(model)
    for number, group in enumerate(_groups(made, blocks, standard)):
        conv, batch_norm = made.get_submodule(group.conv), _norm_like(made, group)
        filters = NormalizedConv2d.of(conv)
        if number < blocks:
            behind = DivisiveNorm(pool, sigma) if norm == "divisive" else batch_norm
            block = HaHBlock(filters, behind, AdaptiveThreshold(keep, rule), top)
        else:
            block = StandardBlock(filters, batch_norm)
        _replace(made, group, block.to(conv.weight.device, conv.weight.dtype).train(conv.training))
    return made


def _groups(model: nn.Module, blocks: int, standard: str) -> list[Group]:
    """Those that become blocks."""
    if standard == "own" and not blocks:
        return []
    groups = find_groups(model)
    if len(groups) < max(blocks, 1):
        names = ", ".join(group.conv for group in groups) or "none"
        raise NetprobeError(
            f"{type(model).__name__} has {len(groups)} groups of a convolution, its batch norm and its ReLU ({names}), "
            f"and {max(blocks, 1)} are asked for; its layers: {described(model)}. Choose "
            + (f"blocks={len(groups)} or fewer" if groups else "a network with convolutions that a ReLU follows")
        )
    return groups if standard == "normalised" else groups[:blocks]


def _check(blocks: int, standard: str, norm: str) -> None:
    if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 0:
        raise NetprobeError(f"blocks={blocks!r}: give a whole number, 0 or more")
    if standard not in STANDARDS:
        raise unknown("form of the standard blocks", standard, STANDARDS)
    if norm not in NORMS:
        raise unknown("normalisation of HaH blocks", norm, NORMS)


def _norm_like(model: nn.Module, group: Group) -> nn.BatchNorm2d:
    """A new batch norm for the channels of the group, with the constants of its own, if it has one."""
    channels = model.get_submodule(group.conv).out_channels
    own = model.get_submodule(group.norm) if group.norm else nn.BatchNorm2d(1)
    return nn.BatchNorm2d(channels, own.eps, own.momentum)


def _replace(model: nn.Module, group: Group, block: HaHBlock | StandardBlock) -> None:
    """Put `block` in the place of `group`."""
    signed = isinstance(block.norm, nn.BatchNorm2d)  # a ReLU behind it would change what it puts out
    if signed and group.relu is None:
        raise NetprobeError(
            f"the ReLU behind {group.conv} of {type(model).__name__} is a function, or shared with other layers, so it "
            "cannot be taken out, and blocks with batch norm may not have one behind: choose standard='own' and "
            "norm='divisive', or give every convolution an nn.ReLU of its own"
        )
    model.set_submodule(group.conv, block)
    for path in filter(None, (group.norm, group.relu)):
        model.set_submodule(path, nn.Identity().train(block.training))

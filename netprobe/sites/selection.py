"""Choose sites by pattern.

"layer1.*"            glob on the site's name
"re:layer[12]\\.\\d"    regular expression, matched anywhere in the name (a compiled re.Pattern works too)
"conv", "linear", ... a kind of layer, see KINDS;   "type:Bottleneck"  any class name among the module's bases
nn.Conv2d             a module class
lambda site: ...      any predicate on a Site
"~head*"              leave out what matches, whatever else chose it
"conv:in"             the inputs of what matches, instead of the outputs
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Iterable, Sequence

from torch.nn.modules import activation

from netprobe.errors import NetprobeError, closest, unknown
from netprobe.sites.site import Site

logger = logging.getLogger(__name__)

Pattern = str | re.Pattern | type | Callable[[Site], bool]

ACTIVATIONS = frozenset(activation.__all__) - {"MultiheadAttention"} | {"PowerReLU"}


def _lineage(*names: str) -> Callable[[Site], bool]:
    return lambda site: bool(site.lineage.intersection(names))


def _ends(*suffixes: str) -> Callable[[Site], bool]:
    return lambda site: site.kind.endswith(suffixes)


KINDS: dict[str, Callable[[Site], bool]] = {
    "conv": _lineage("_ConvNd"),
    "linear": _lineage("Linear"),
    "weighted": _lineage("_ConvNd", "Linear"),
    "norm": lambda site: "Norm" in site.kind,
    "activation": lambda site: bool(site.lineage.intersection(ACTIVATIONS)),
    "relu": _lineage("ReLU", "PowerReLU"),
    "pool": lambda site: "Pool" in site.kind,
    "attention": lambda site: "Attention" in site.kind,
    "block": _ends("Block", "Bottleneck", "EncoderLayer", "PreActBlock", "Unit"),
    "leaf": lambda site: site.leaf,
    "all": lambda site: True,
}


def select(sites: Sequence[Site], patterns: Pattern | Iterable[Pattern] = "weighted") -> list[Site]:
    """The sites that `patterns` choose, in run order, each once.

    One pattern or several (a string may hold several, separated by commas); the module docstring lists the forms.
    Raises NetprobeError for a pattern that matches nothing, with the closest names, and for a site without a batch axis
    that was named outright; patterns with wildcards pass over such sites only if they match others too.

    >>> import torch
    >>> import netprobe as npb
    >>> sites = npb.find_sites(npb.load("digits_cnn"), torch.rand(1, 1, 8, 8))
    >>> [site.name for site in npb.select(sites, ["weighted", "~conv[1-3]"])]
    ['conv4', 'conv5', 'linear']
    >>> [site.name for site in npb.select(sites, "conv5,conv5:in")]
    ['conv5:in', 'conv5']
    """
    chosen: set[Site] = set()
    dropped: set[Site] = set()
    for pattern in _several(patterns):
        excluded, pattern = _excluded(pattern)
        (dropped if excluded else chosen).update(_matching(sites, pattern))
    if not chosen and dropped:
        chosen = set(_matching(sites, "weighted"))
    if not chosen - dropped:
        raise NetprobeError(f"the site patterns {patterns!r} exclude every site they choose; drop a '~' pattern")
    return [site for site in sites if site in chosen - dropped]


def _several(patterns: Pattern | Iterable[Pattern]) -> list[Pattern]:
    if isinstance(patterns, str):
        return patterns.split(",") if not patterns.startswith("re:") else [patterns]
    if isinstance(patterns, re.Pattern | type) or callable(patterns):
        return [patterns]
    return [single for pattern in patterns for single in _several(pattern)]


def _excluded(pattern: Pattern) -> tuple[bool, Pattern]:
    if isinstance(pattern, str) and pattern.strip().startswith("~"):
        return True, pattern.strip()[1:]
    return False, pattern.strip() if isinstance(pattern, str) else pattern


def _matching(sites: Sequence[Site], pattern: Pattern) -> list[Site]:
    where, body = _where(pattern)
    _unambiguous(body, sites)
    matches = _predicate(body)
    found = [site for site in sites if site.where in where and matches(site)]
    if not found:
        names = [site.name for site in sites if site.where in where]
        raise unknown("site pattern", pattern, names, f"`netprobe layers` lists all; kinds: {', '.join(KINDS)}")
    usable = [site for site in found if site.batch_axis is not None]
    if usable and len(usable) < len(found):
        logger.warning("passing over sites without an image axis: %s", [s.name for s in found if s.batch_axis is None])
    if not usable:
        around = closest(found[0].module, [s.name for s in sites if s.batch_axis == 0], 1)
        raise NetprobeError(
            f"no axis of {found[0].name!r} (shape {found[0].shape}) counts the images, so it cannot be compared image "
            f"by image; choose a site around it, for example {around[0] if around else 'output'!r}"
        )
    return usable


def _where(pattern: Pattern) -> tuple[tuple[str, ...], Pattern]:
    """Outputs, unless the pattern ends in ':in' or is the whole model's 'input'."""
    if not isinstance(pattern, str):
        return ("output",), pattern
    if pattern.endswith(":in"):
        return ("input",), pattern.removesuffix(":in")
    return (("input",) if pattern == "input" else ("output",)), pattern


def _unambiguous(pattern: Pattern, sites: Sequence[Site]) -> None:
    """A kind of layer must not be the name of a module of another kind: "conv" would say two things."""
    kind = KINDS.get(pattern) if isinstance(pattern, str) else None
    if kind and any(_spellings(site)[1].partition("/")[0] == pattern and not kind(site) for site in sites):
        raise NetprobeError(
            f"{pattern!r} is a kind of layer and a module's name here; write 'type:{pattern}' or 're:^{pattern}$'"
        )


def _predicate(pattern: Pattern) -> Callable[[Site], bool]:
    if isinstance(pattern, re.Pattern):
        return lambda site: pattern.search(site.name) is not None
    if isinstance(pattern, type):
        return _lineage(pattern.__name__)
    if callable(pattern):
        return pattern
    if pattern.startswith("re:"):
        return _predicate(_compiled(pattern.removeprefix("re:")))
    if pattern.startswith("type:"):
        name = pattern.removeprefix("type:")
        return KINDS.get(name) or _lineage(name)
    return KINDS.get(pattern) or (lambda site: any(fnmatch.fnmatchcase(name, pattern) for name in _spellings(site)))


def _compiled(expression: str) -> re.Pattern:
    try:
        return re.compile(expression)
    except re.error as error:
        raise NetprobeError(f"{expression!r} is not a regular expression: {error}") from None


def _spellings(site: Site) -> tuple[str, str]:
    """`relu#1:in` may be asked for as 'relu#1:in' or, all calls together, as 'relu:in'; the ':in' is gone by now."""
    name = site.name.replace(":in", "")
    return name, re.sub(r"#\d+", "", name)

"""Docstrings as netprobe writes them, which are plain text, as reStructuredText.

What is told from the text alone, indented lines being whatever is not prose:

    Title            underlined with dashes: a heading
    name : text      and "name   text" in columns: a definition; lines indented behind it go on with it
    indented lines   all of them definitions in columns: those; otherwise a formula or an example, verbatim
    `name`           a link where the name is public, code otherwise

Everything else is prose, in which no sign has a meaning of its own.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

DEFINED = re.compile(r"(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*) : (?P<text>.+)")
IN_COLUMNS = re.compile(r"(?P<names>\S(?:(?! = ).){0,58}?(?<![.,;: ])) {2,}(?P<text>(?!.* {3})\S.*)")
Link = Callable[[str], str | None]


def restructured(lines: list[str], link: Link = lambda name: None) -> list[str]:
    """The docstring `lines`; `link` gives the full name of what a short one means, if anything."""
    made: list[str] = []
    for block in _blocks(lines):
        made += [*_rendered(block, link), ""]
    return made


def first_line(value: Any) -> str:
    """Of the docstring of a module, class or function; empty if it has none."""
    return (inspect.getdoc(value) or "").partition("\n")[0]


def definitions(terms: dict[str, str], link: Link = lambda name: None) -> list[str]:
    """A list of names with what they are."""
    return [line for name, text in terms.items() for line in (f"``{name}``", f"    {prose(text, link)}", "")]


def prose(text: str, link: Link = lambda name: None) -> str:
    """Plain text on one line, names in backticks as links or code."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    for i, part in enumerate(parts):
        parts[i] = _code(part, link) if i % 2 else re.sub(r"([\\*_|`])", r"\\\1", part)
    return "".join(parts)


def _code(text: str, link: Link) -> str:
    meant = link(text.removesuffix("()"))
    return f"\\ :py:obj:`{text} <{meant}>`\\ " if meant else f"\\ ``{text}``\\ "


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Headings, examples, definitions, indented lines and paragraphs, one after the other."""
    block: list[str] = []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if block and not _goes_on(block, line, after):
            yield block
            block = []
        if line.strip() or block:
            block.append(line)
    if block:
        yield block


def _goes_on(block: list[str], line: str, after: str) -> bool:
    """Whether `line` belongs to the lines before it."""
    first = block[0]
    if _is_rule(line):
        return len(block) == 1
    if first.startswith(">>>"):
        return bool(block[-1].strip())
    if first.startswith(" "):
        return line.startswith(" ") or not line.strip()
    if not line.strip() or not block[-1].strip() or _is_rule(block[-1]) or _is_rule(after):
        return False
    return line.startswith(" ") if _definition(first) else not (line.startswith((" ", ">>>")) or _definition(line))


def _rendered(block: list[str], link: Link) -> list[str]:
    while not block[-1].strip():
        block = block[:-1]
    if len(block) == 2 and _is_rule(block[1]):
        return [f".. rubric:: {block[0]}"]
    if block[0].startswith(">>>"):
        return block
    if block[0].startswith(" "):
        return _set_apart(textwrap.dedent("\n".join(block)).splitlines(), link)
    if found := _definition(block[0]):
        return definitions({found["names"]: " ".join([found["text"], *block[1:]])}, link)
    return [prose(" ".join(block), link)]


def _set_apart(block: list[str], link: Link) -> list[str]:
    """Indented lines, brought to the left."""
    if all(IN_COLUMNS.fullmatch(line) for line in block if line.strip() and not line.startswith(" ")):
        return restructured(block, link)
    return ["::", "", *(f"    {line}" for line in block)]


def _definition(line: str) -> re.Match[str] | None:
    return DEFINED.fullmatch(line) or IN_COLUMNS.fullmatch(line)


def _is_rule(line: str) -> bool:
    return re.fullmatch("-{3,}", line) is not None

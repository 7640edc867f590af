"""What a pre-flight check found: how bad, which check, the evidence, the remedy."""

from __future__ import annotations

import html
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import xarray as xr

from netprobe.errors import NetprobeError, unknown

SEVERITIES = ("error", "warning", "note")  # worst first
WIDTH = 100  # of the printed table, in characters


@dataclass(frozen=True)
class Finding:
    """An error makes results meaningless, a warning makes them doubtful, a note explains them."""

    severity: str
    check: str
    evidence: str
    remedy: str

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise unknown("severity", self.severity, SEVERITIES)

    def __str__(self) -> str:
        lead = f"{self.severity:<8} {self.check:<16} "
        blank = " " * len(lead)
        return "\n".join(
            textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest)
            for text, first, rest in (
                (self.evidence, lead, blank),
                (self.remedy, f"{blank}-> ", f"{blank}   "),
            )
        )


COLUMNS = tuple(field.name for field in fields(Finding))


class Findings(Sequence[Finding]):
    """Findings, worst first, and the names of all `checks` that were made. False when there are none."""

    def __init__(self, findings: Iterable[Finding], checks: Iterable[str] = ()) -> None:
        self._findings = tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
        self.checks = tuple(checks)

    def __getitem__(self, index):
        return self._findings[index]

    def __len__(self) -> int:
        return len(self._findings)

    def of(self, *severities: str) -> Findings:
        """Those of the given severities."""
        return Findings((finding for finding in self if finding.severity in severities), self.checks)

    @property
    def errors(self) -> Findings:
        return self.of("error")

    @property
    def warnings(self) -> Findings:
        return self.of("warning")

    def raise_if(self, strict: bool) -> Findings:
        """These findings; but if `strict`, a NetprobeError that lists every error and warning among them."""
        serious = self.of("error", "warning")
        if strict and serious:
            raise NetprobeError(f"the pre-flight check found\n{serious}")
        return self

    def to_dataset(self, model: str = "") -> xr.Dataset:
        """Strings `severity`, `check`, `evidence`, `remedy` and `model`, each over the dim `finding`."""
        columns = dict(zip(COLUMNS, zip(*map(astuple, self), strict=True), strict=False))
        columns = {name: columns.get(name, ()) for name in COLUMNS} | {"model": (model,) * len(self)}
        return xr.Dataset(
            {name: ("finding", np.array(values, dtype=object), _attributes(name)) for name, values in columns.items()}
        )

    def summary(self) -> str:
        """Such as "1 error, 2 notes in 14 checks"."""
        counts = Counter(finding.severity for finding in self)
        parts = [f"{counts[s]} {s}{'s' * (counts[s] > 1)}" for s in SEVERITIES if counts[s]]
        return f"{', '.join(parts) or 'nothing found'} in {len(self.checks)} checks"

    def __repr__(self) -> str:
        return f"Findings({self.summary()})"

    def __str__(self) -> str:
        return "\n".join([*map(str, self), self.summary()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th scope='col'>{name}</th>" for name in COLUMNS)
        body = "".join(f"<tr>{_cells(finding)}</tr>" for finding in self)
        caption = f"<caption>pre-flight: {html.escape(self.summary())}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(finding: Finding) -> str:
    return "".join(f"<td>{html.escape(text)}</td>" for text in astuple(finding))


DEFINITIONS = {
    "severity": "error: results are meaningless; warning: doubtful; note: an explanation",
    "check": "which pre-flight check",
    "evidence": "what was seen",
    "remedy": "what to do about it",
    "model": "name of the model that was checked",
}


def _attributes(name: str) -> dict[str, str]:
    return {"long_name": name, "units": "1", "definition": DEFINITIONS[name]}

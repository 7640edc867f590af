"""Whether gradients can be believed, as lines of a table."""

from __future__ import annotations

import published
import xarray as xr


def rows(results: xr.DataTree) -> list[str]:
    """A line for each network: what every check came to, and the verdict; below, what was flagged, and by what attacks.

    Signs of masked gradients after Athalye et al. (2018), Carlini et al. (2019): see `netprobe.evaluation.doubts`.
    """
    found = results["doubts"].to_dataset()
    checks = list(dict.fromkeys(found["row_check"].values.tolist()))
    lines = published.head([*checks, "verdict"])
    for name, verdict in zip(found["subject"].values.tolist(), found["verdict"].values.tolist(), strict=True):
        lines.append(f"| {name} | " + " | ".join([*(_status(found, name, check) for check in checks), verdict]) + " |")
    return [*lines, "", *_flagged(found), *published.settings_of(results)]


def _status(found: xr.Dataset, name: str, check: str) -> str:
    rows = (found["row_model"].values == name) & (found["row_check"].values == check)
    return str(found["status"].values[rows][0])


def _flagged(found: xr.Dataset) -> list[str]:
    """The findings, notes too."""
    columns = (found[each].values.tolist() for each in ("model", "check", "severity", "evidence"))
    return [f"{model}, {check} ({severity}): {said}" for model, check, severity, said in zip(*columns, strict=True)]

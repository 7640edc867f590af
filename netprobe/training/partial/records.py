"""Results of finished units: a small JSON file each, which appears wholly or not at all."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from netprobe.store import atomically

logger = logging.getLogger(__name__)


def write_record(path: Path, key: str, content: dict[str, Any]) -> None:
    """Write `content`, and the `key` of what it depends on."""
    text = json.dumps({"key": key, **content}, indent=1, sort_keys=True) + "\n"
    atomically(path, lambda part: part.write_text(text))


def read_record(path: Path, key: str) -> dict[str, Any] | None:
    """What `write_record` wrote there with that key; None if there is nothing, or nothing that can be read."""
    if not path.is_file():
        return None
    try:
        content = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        logger.warning("%s is damaged (%s) and is computed again", path, error)
        return None
    return content if content.pop("key", None) == key else None

"""What holds for the settings of everything that has a spec: values, checked, told in JSON and as text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from netprobe.fields import Checked, assignments
from netprobe.testing.law import demand


def demand_values(one: Checked) -> None:
    """It is frozen, hashable, equal to a copy of itself, every setting has a line of help, and the class its names."""
    copy = dataclasses.replace(one)
    demand(copy == one and hash(copy) == hash(one), "a copy is another value")
    demand(type(one).__dataclass_params__.frozen, f"{type(one).__name__} is not @dataclass(frozen=True)")
    bare = [f.name for f in dataclasses.fields(one) if not f.metadata.get("help")]
    demand(not bare, f"no help for {', '.join(bare)}")
    nameless = [attribute for attribute in ("name", "title") if not isinstance(getattr(one, attribute, None), str)]
    demand(not nameless, f"{type(one).__name__} has no {' and no '.join(nameless)}")


def demand_round_trip(one: Checked, spec: str, described: Mapping[str, object], kind: str) -> None:
    """Its spec and its description, through JSON, make it again."""
    name, _, rest = spec.partition(":")
    demand(name == one.name, f"the spec {spec!r} does not begin with the name {one.name!r}")
    made = type(one)(**assignments(rest, spec))
    demand(made == one, f"the spec {spec!r} reads back as {made!r}, not as {one!r}")
    told = json.loads(json.dumps(described))
    again = type(one)(**{key: value for key, value in told.items() if key not in (kind, "class")})
    demand(again == one, f"its description makes {again!r}, not {one!r}")

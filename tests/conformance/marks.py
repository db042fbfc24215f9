"""The names of everything that the suite makes: a marker, the time, and something random.

By the marker a later run knows what an earlier one left, and by the time that nobody uses it any more.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta

MARKER = "hana-ai-conformance"

_TIME = "%Y%m%dt%H%M%Sz"
_NAME = re.compile(rf"{MARKER}-(\d{{8}}t\d{{6}}z)-[0-9a-f]{{8}}\Z")


def new_name() -> str:
    """A name of this run's own, in lower case with dashes."""
    return f"{MARKER}-{datetime.now(UTC).strftime(_TIME)}-{secrets.token_hex(4)}"


def schema_name(name: str) -> str:
    """The same name as one of HANA's, in upper case with underscores."""
    return name.upper().replace("-", "_")


def name_of_schema(schema: str) -> str:
    """The name whose form in HANA this is; empty for what has another form."""
    name = schema.lower().replace("_", "-")
    return name if schema_name(name) == schema else ""


def made_at(name: str) -> datetime | None:
    """When the suite made what bears this name, or a file of this name; None for what it did not make."""
    found = _NAME.match(name.removesuffix(".jsonl"))
    if found is None:
        return None
    try:
        return datetime.strptime(found[1], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def is_abandoned(name: str, after: timedelta) -> bool:
    """Whether the suite made what bears this name, so long ago that no run uses it any more."""
    made = made_at(name)
    return made is not None and datetime.now(UTC) - made > after

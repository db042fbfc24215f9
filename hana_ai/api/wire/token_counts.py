"""Token counts as the API writes them: read, and added over several replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_MOST_TOKENS = 2**53
"""The largest number that JSON, SQL and floats all hold exactly."""


def token_counts(reply: Any) -> dict[str, int] | None:
    """A reply's token counts under the API's names; None when it has none."""
    usage = reply.get("usage") if isinstance(reply, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    return {name: count for name, count in usage.items() if isinstance(count, int)} or None


def sum_token_counts(counts: Iterable[Any]) -> dict[str, int] | None:
    """Add token counts, name by name; None as soon as one is unknown, since unknown is not zero."""
    total: dict[str, int] = {}
    for count in counts:
        if not isinstance(count, Mapping):
            return None
        for name, tokens in count.items():
            if isinstance(tokens, int):
                total[name] = total.get(name, 0) + tokens
    return total or None


def count(value: object) -> int | None:
    """A number of tokens; None for what is none, such as one that no reply has room for."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
        return int(value)
    return None

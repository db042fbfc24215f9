"""Token counts as the API writes them: read in one way for the ledger, the client, the connector and LangChain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_MOST_TOKENS = 2**53
"""The largest number that JSON, SQL and floats all hold exactly."""


class Tokens(NamedTuple):
    """Tokens of one call; None where the server did not say, which is not zero."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    """Part of `prompt`."""
    reasoning: int | None = None
    """Part of `completion`."""

    @property
    def total(self) -> int | None:
        """Prompt and completion together; None where one of them is unknown."""
        return None if self.prompt is None or self.completion is None else self.prompt + self.completion


def read_tokens(usage: object) -> Tokens:
    """Read a reply's `usage`.

    Of prompt, completion and total, any two tell the third. Details come nested or flat.
    """
    # A dict nearly always; asking that first is many times faster.
    if not isinstance(usage, (dict, Mapping)):
        return Tokens()
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    total = count(usage.get("total_tokens"))
    if total is not None:
        if completion is None and prompt is not None:
            completion = max(0, total - prompt)
        elif prompt is None and completion is not None:
            prompt = max(0, total - completion)
    return Tokens(
        prompt,
        completion,
        _detail(usage, "prompt_tokens_details", "cached_tokens"),
        _detail(usage, "completion_tokens_details", "reasoning_tokens"),
    )


def _detail(usage: Mapping[str, object], where: str, name: str) -> int | None:
    details = usage.get(where)
    nested = count(details.get(name)) if details is not None and isinstance(details, Mapping) else None
    return count(usage.get(name)) if nested is None else nested


def count(value: object) -> int | None:
    """A number of tokens; None for anything else, such as a number too large for any reply."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
        return int(value)
    return None


def token_counts(reply: object) -> dict[str, int] | None:
    """A reply's token counts under the API's names; None when it has none."""
    usage = reply.get("usage") if isinstance(reply, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    return {name: tokens for name, value in usage.items() if (tokens := count(value)) is not None} or None


def sum_token_counts(counts: Iterable[object]) -> dict[str, int] | None:
    """Add token counts, name by name; None as soon as one is unknown, since unknown is not zero."""
    total: dict[str, int] = {}
    for each in counts:
        if not isinstance(each, Mapping):
            return None
        for name, value in each.items():
            tokens = count(value)
            if tokens is not None:
                total[name] = total.get(name, 0) + tokens
    return total or None

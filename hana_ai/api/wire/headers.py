"""What a reply's headers say: the exchange's id, and how long to wait."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping

_LONGEST_NAMED_WAIT = 3600.0


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Together's own id of the exchange."""
    return headers.get("x-request-id") or headers.get("x-together-traceid")


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, `retry-after` or `x-ratelimit-reset`.

    Values that make no sense (negative, not a number, more than an hour) count as absent.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0), ("x-ratelimit-reset", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value.strip().removesuffix("s")) * scale
        except ValueError:
            try:
                stamp = email.utils.parsedate_tz(value)
                if stamp is None:
                    continue
                seconds = max(0.0, email.utils.mktime_tz(stamp) - time.time())
            except (ValueError, OverflowError):
                # It has the form of a date, with a year or a month that no calendar has.
                continue
        if seconds > 1_000_000_000:
            # A point in time instead of a span, as some gateways send it.
            seconds -= time.time()
        if 0 <= seconds <= _LONGEST_NAMED_WAIT:
            return seconds
    return None

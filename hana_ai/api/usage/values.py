"""Reads values of a ledger's tables as what they must be; a ValueError or TypeError says that they are not."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import orjson

_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z")


def read_usd(value: object) -> Decimal:
    """An amount of USD: a text that is a finite number, not below zero."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no amount")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is no amount") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{value!r} is no amount")
    return amount


def read_day(value: object) -> str:
    """A day such as 2026-03-31."""
    if not isinstance(value, str) or not _DAY.match(value):
        raise ValueError(f"{value!r} is no day")
    return value


def read_tags(value: object) -> tuple[str, ...]:
    """Tags, from a JSON list of texts."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no list of tags")
    tags = orjson.loads(value)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError(f"{value!r} is no list of tags")
    return tuple(tags)


def read_count(value: object) -> int | None:
    """A whole number, not below zero, or None."""
    if value is None:
        return None
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def read_seconds(value: object) -> float:
    """Seconds."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number of seconds")
    return float(value)

"""Functions that a running query calls for each of its rows, found by number."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

RowFunction: TypeAlias = Callable[[list[str | None]], str | None]
"""Gives the value for one row; arguments and value are texts, as DuckDB casts them."""


class RowCalls:
    """The functions that the queries of all sessions call now."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._functions: dict[int, RowFunction] = {}
        self._lock = threading.Lock()

    def add(self, function: RowFunction) -> int:
        """Make a function known; gives its number."""
        with self._lock:
            number = next(self._numbers)
            self._functions[number] = function
            return number

    def remove(self, number: int) -> None:
        """Forget a function."""
        with self._lock:
            self._functions.pop(number, None)

    def call(self, number: int, arguments: list[str | None]) -> str | None:
        """What DuckDB calls for each row."""
        return self._functions[number](arguments)

"""Lists that come in pages, and their end."""

from __future__ import annotations

import time

from hana_ai.api.errors import TogetherAIResponseError, TogetherAITimeoutError


class PageTurner:
    """Follows the cursors of one list, which a server could hand out without end.

    Parameters
    ----------
    most : int
        Pages that are read at most.
    seconds : float
        How long reading the whole list may take.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._seen: set[str] = set()

    @property
    def seconds_left(self) -> float:
        """Seconds that are left for the list."""
        return max(0.001, self._deadline - time.monotonic())

    def check(self) -> None:
        """Check that there is time left.

        Raises
        ------
        TogetherAITimeoutError
            There is none.
        """
        if time.monotonic() >= self._deadline:
            raise TogetherAITimeoutError(
                f"a list did not end within {self._seconds:g} s; {len(self._seen)} pages were read",
                hint="Raise TOGETHER_TIMEOUT.",
            )

    def next(self, cursor: str | None, request_id: str | None = None) -> str | None:
        """The cursor of the next page; None at the end.

        Raises
        ------
        TogetherAIResponseError
            That page was read before, or there are too many.
        """
        if not cursor:
            return None
        if cursor in self._seen:
            raise TogetherAIResponseError(
                f"the server names a page of a list again (next_cursor {cursor[:80]!r}), which would never end",
                request_id=request_id,
            )
        self._seen.add(cursor)
        if len(self._seen) >= self._most:
            raise TogetherAIResponseError(
                f"a list has more than {self._most} pages; the last next_cursor was {cursor[:80]!r}",
                request_id=request_id,
            )
        return cursor

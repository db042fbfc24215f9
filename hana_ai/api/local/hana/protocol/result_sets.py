"""The result sets that a client reads page by page, and the large objects in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from hana_ai.api.local.hana.interface import Column, FunctionCode, HanaError, Parameter, Result, Value
from hana_ai.api.local.hana.protocol import lobs, rows
from hana_ai.api.local.hana.protocol.wire import Part, PartAttribute, PartKind, Request, rows_affected_part

Reply: TypeAlias = "tuple[FunctionCode, Sequence[Part]]"
"""What a request is answered with."""

INLINE_ROWS = 1024
"""Rows that go with the reply to a query."""

INLINE_BYTES = 1024 * 1024
"""Where the reply to a query stops taking more rows."""

PAGE_BYTES = 8 * 1024 * 1024
"""Where the reply to a FETCHNEXT stops taking more rows, whatever the client asks for."""

_GENERAL_ERROR = 2


class ResultSets:
    """The open result sets of one connection.

    Parameters
    ----------
    new_id : callable
        Gives an id that nothing else of the connection has.
    """

    def __init__(self, new_id: Callable[[], bytes]) -> None:
        self._new_id = new_id
        self._cursors: dict[bytes, rows.ResultCursor] = {}
        self._next_locator = 1

    def close(self) -> None:
        """Close all of them."""
        for cursor in self._cursors.values():
            cursor.close()
        self._cursors.clear()

    def reply(self, result: Result, cursor_id: bytes | None = None, parameters: Sequence[Parameter] = ()) -> Reply:
        """The reply to an execution; with a `cursor_id` it has left already, and the rows wait there.

        A small result is in the reply as a whole, so that nothing of it needs to outlive a commit.
        """
        if result.outputs is not None or result.more:
            return self._call_reply(result, parameters)
        if result.columns is None or result.rows is None:
            parts = [rows_affected_part(result.rows_affected)] if result.rows_affected else []
            return result.function_code, parts
        if cursor_id is not None:
            self._cursors[cursor_id] = rows.ResultCursor(result.columns, result.rows)
            return result.function_code, ()
        return result.function_code, self._result_set(result.columns, result.rows)

    def _result_set(self, columns: tuple[Column, ...], found: Iterator[Sequence[Value]]) -> list[Part]:
        cursor_id = self._new_id()
        page = self._page(cursor_id, rows.ResultCursor(columns, found), INLINE_ROWS, INLINE_BYTES)
        return [rows.metadata_part(columns), Part(PartKind.RESULT_SET_ID, 1, cursor_id), page]

    def _call_reply(self, result: Result, parameters: Sequence[Parameter]) -> Reply:
        """The reply to a procedure or block: the values of its parameters, then its result sets."""
        parts: list[Part] = []
        if result.outputs is not None:
            kinds = [parameter.type for parameter in parameters if parameter.mode != "IN"]
            columns = tuple(Column("", kind) for kind in kinds)
            page = self._page(self._new_id(), rows.ResultCursor(columns, iter([result.outputs])), 1, INLINE_BYTES)
            parts.append(Part(PartKind.OUTPUT_PARAMETERS, 1, page.data))
        for one in (result, *result.more):
            if one.columns is not None and one.rows is not None:
                parts += self._result_set(one.columns, one.rows)
        return result.function_code, parts

    def _page(self, cursor_id: bytes, cursor: rows.ResultCursor, max_rows: int, max_bytes: int) -> Part:
        """Encode the next rows; the cursor stays known as long as the client may ask it for more."""
        is_first = cursor_id not in self._cursors
        cursor.lobs.next_locator = self._next_locator
        count, data = cursor.page(max_rows, max_bytes)
        self._next_locator = cursor.lobs.next_locator
        self._cursors[cursor_id] = cursor
        attributes = int(PartAttribute.FIRST if is_first else PartAttribute.NEXT)
        if cursor.finished:
            # Without ROW_NOT_FOUND hdbcli would ask an empty result set for more.
            attributes = PartAttribute.LAST | (0 if count else PartAttribute.ROW_NOT_FOUND)
            # With LOBs left to read, it is the client that closes the result set when it is done with them.
            if not len(cursor.lobs):
                attributes |= PartAttribute.RESULT_SET_CLOSED
                del self._cursors[cursor_id]
                cursor.close()
        return Part(PartKind.RESULT_SET, count, data, attributes)

    def fetch_next(self, request: Request) -> Reply:
        """The next page."""
        cursor_id = request.require(PartKind.RESULT_SET_ID).data
        size = request.require(PartKind.FETCH_SIZE).data
        cursor = self._cursors.get(cursor_id)
        if cursor is None:
            raise HanaError(_GENERAL_ERROR, "the result set is closed")
        wanted = int.from_bytes(size[:4], "little", signed=True)
        return FunctionCode.FETCH, [self._page(cursor_id, cursor, max(wanted, 1), PAGE_BYTES)]

    def close_one(self, request: Request) -> Reply:
        """Close a result set that the client is done with."""
        cursor = self._cursors.pop(request.require(PartKind.RESULT_SET_ID).data, None)
        if cursor is not None:
            cursor.close()
        return FunctionCode.CLOSE_CURSOR, ()

    def read_lob(self, request: Request) -> Reply:
        """A piece of a large object of one of the rows."""
        wanted = lobs.read_request(request.require(PartKind.READ_LOB_REQUEST))
        for cursor in self._cursors.values():
            if wanted.locator in cursor.lobs:
                chunk, last = cursor.lobs.read(*wanted)
                return FunctionCode.READ_LOB, [lobs.read_reply(wanted.locator, chunk, last)]
        raise HanaError(_GENERAL_ERROR, "the LOB locator is not valid: its result set is closed")

"""HanaRecordManager: what has been written to a vector table, in a table of SAP HANA.

It is a record manager of LangChain's, for `langchain_core.indexing.index`, and keeps the progress of an ingest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from langchain_core.indexing import RecordManager

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, Connections, Context, Cursor, execute, only_row
from hana_ai.api.hana.vector_column import has_table
from hana_ai.api.storage.quoting import literal, quoted

TABLE = "HANA_AI_TOGETHER_RECORDS"
LONGEST_KEY = 255
LONGEST_GROUP = 2000

_LENGTHS = (1, 10, 100, 1000)
_NOW = "NANO100_BETWEEN(TO_TIMESTAMP('1970-01-01 00:00:00'), CURRENT_UTCTIMESTAMP)"
_COLUMNS = (
    f'"NAMESPACE" NVARCHAR({LONGEST_KEY}) NOT NULL, "KEY" NVARCHAR({LONGEST_KEY}) NOT NULL, '
    f'"GROUP_ID" NVARCHAR({LONGEST_GROUP}), "UPDATED_AT" DOUBLE NOT NULL, "STATE" NVARCHAR(64), '
    'PRIMARY KEY ("NAMESPACE", "KEY")'
)
_T = TypeVar("_T")


class HanaRecordManager(RecordManager):
    """Records of what was written, with the database's time. Thread-safe.

    Parameters
    ----------
    namespace : str
        Of whose records; at most 255 characters.
    connection : hdbcli.dbapi.Connection or hana_ml.ConnectionContext, optional
        The caller closes it. Default: connections from the settings (HANA_ADDRESS, ...).
    connect : callable, optional
        Opens further connections, for threads that work at the same time.
    table_name : str
        Made by `create_schema`.
    schema_name : str
        Default: the connection's current schema.

    Examples
    --------
    >>> from langchain_core.indexing import index
    >>> from hana_ai.api.hana import HanaRecordManager
    >>> records = HanaRecordManager("manuals", connection)
    >>> records.create_schema()
    >>> index(documents, records, store, cleanup="scoped_full", source_id_key="source", key_encoder="sha256")
    """

    def __init__(
        self,
        namespace: str,
        connection: Connection | Context | None = None,
        *,
        connect: Callable[[], Connection] | None = None,
        table_name: str = TABLE,
        schema_name: str = "",
    ) -> None:
        super().__init__(_checked(namespace, LONGEST_KEY, "namespace"))
        self.connections = Connections.of(connection, connect)
        self._place = (schema_name, table_name)
        self.table = ".".join(quoted(name) for name in self._place if name)

    # --- LangChain's faces ---

    def create_schema(self) -> None:
        """Make the table if there is none."""
        make_table(self.connections, *self._place, _COLUMNS)

    def get_time(self) -> float:
        """The database's time, in seconds since 1970."""
        with self.connections.lease() as connection:
            return int(only_row(connection, f"SELECT {_NOW} FROM DUMMY")[0]) / 1e7

    def update(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Write records with the present time, all or none of them.

        Raises
        ------
        TogetherAIInputError
            The lists differ in length, a key or a group is too long, or the database's time is before
            `time_at_least`.
        """
        groups = [None] * len(keys) if group_ids is None else list(group_ids)
        if len(groups) != len(keys):
            raise TogetherAIInputError(f"There are {len(keys)} keys, but {len(groups)} group_ids.")
        now = self.get_time()
        if time_at_least is not None and now < time_at_least:
            raise TogetherAIInputError(f"The database's time is {now}, before time_at_least={time_at_least}.")
        rows = {
            _checked(key, LONGEST_KEY, "key"): (
                self.namespace, key, None if group is None else _checked(group, LONGEST_GROUP, "group id"), now
            )
            for key, group in zip(keys, groups, strict=True)
        }  # fmt: skip
        if rows:
            upsert = (
                f'UPSERT {self.table} ("NAMESPACE", "KEY", "GROUP_ID", "UPDATED_AT") VALUES (?, ?, ?, ?) '
                "WITH PRIMARY KEY"
            )
            self.connections.transact(lambda cursor: cursor.executemany(upsert, list(rows.values())))

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Which of the keys there are."""
        found = self.states(keys)
        return [key in found for key in keys]

    def list_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """The keys that were written before and after a time, of any of the groups; at most `limit`."""
        conditions, parameters = ['"NAMESPACE" = ?'], [self.namespace]
        for operator, moment in (("<", before), (">", after)):
            if moment is not None:
                conditions.append(f'"UPDATED_AT" {operator} ?')
                parameters.append(moment)  # type: ignore[arg-type]
        found: list[str] = []
        parts = [None] if group_ids is None else list(in_parts(group_ids))
        with self.connections.lease() as connection, connection.cursor() as cursor:
            for part in parts:
                room = "" if limit is None else f"TOP {max(0, int(limit) - len(found))} "
                if room == "TOP 0 ":
                    break
                groups = "" if part is None else f' AND "GROUP_ID" IN ({marks(part)})'
                cursor.execute(
                    f'SELECT {room}"KEY" FROM {self.table} WHERE {" AND ".join(conditions)}{groups} '
                    'ORDER BY "KEY"',
                    (*parameters, *(part or ())),
                )
                found += [row[0] for row in cursor.fetchall()]
        return found

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete records."""

        def delete(cursor: Cursor) -> None:
            for part in in_parts(keys):
                cursor.execute(
                    f'DELETE FROM {self.table} WHERE "NAMESPACE" = ? AND "KEY" IN ({marks(part)})',
                    (self.namespace, *part),
                )

        self.connections.transact(delete)

    async def acreate_schema(self) -> None:
        """Make the table from a coroutine; see `create_schema`."""
        await asyncio.to_thread(self.create_schema)

    async def aget_time(self) -> float:
        """The database's time; see `get_time`."""
        return await asyncio.to_thread(self.get_time)

    async def aupdate(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Write records from a coroutine; see `update`, whose errors it raises."""
        await asyncio.to_thread(self.update, keys, group_ids=group_ids, time_at_least=time_at_least)

    async def aexists(self, keys: Sequence[str]) -> list[bool]:
        """Which of the keys there are."""
        return await asyncio.to_thread(self.exists, keys)

    async def alist_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """The keys; see `list_keys`."""
        return await asyncio.to_thread(
            self.list_keys, before=before, after=after, group_ids=group_ids, limit=limit
        )

    async def adelete_keys(self, keys: Sequence[str]) -> None:
        """Delete records from a coroutine."""
        await asyncio.to_thread(self.delete_keys, keys)

    # --- for the ingest ---

    def states(self, keys: Sequence[str]) -> dict[str, tuple[str, float]]:
        """State and time of those keys that there are; the state is empty where none was written."""
        found: dict[str, tuple[str, float]] = {}
        if not keys:
            return found
        with self.connections.lease() as connection, connection.cursor() as cursor:
            for part in in_parts(keys):
                cursor.execute(
                    f'SELECT "KEY", "STATE", "UPDATED_AT" FROM {self.table} '
                    f'WHERE "NAMESPACE" = ? AND "KEY" IN ({marks(part)})',
                    (self.namespace, *part),
                )
                found |= {row[0]: (row[1] or "", row[2]) for row in cursor.fetchall()}
        return found

    def touch(self, keys: Sequence[str], moment: float) -> None:
        """Say of records that they are still wanted."""

        def touch(cursor: Cursor) -> None:
            for part in in_parts(keys):
                cursor.execute(
                    f'UPDATE {self.table} SET "UPDATED_AT" = ? WHERE "NAMESPACE" = ? AND "KEY" IN ({marks(part)})',
                    (moment, self.namespace, *part),
                )

        self.connections.transact(touch)

    def write(
        self, cursor: Cursor, rows: Iterable[tuple[str, str, str]], moment: float, *, replace: bool = True
    ) -> None:
        """Write key, group and state of records in somebody's transaction; without `replace` they must be new."""
        verb, end = ("UPSERT", " WITH PRIMARY KEY") if replace else ("INSERT INTO", "")
        written = [(key, group[:LONGEST_GROUP], moment, state) for key, group, state in rows]
        if written:
            # What all rows have is not sent with each.
            cursor.executemany(
                f'{verb} {self.table} ("NAMESPACE", "KEY", "GROUP_ID", "UPDATED_AT", "STATE") '
                f"VALUES ({literal(self.namespace)}, ?, ?, ?, ?){end}",
                written,
            )


def make_table(connections: Connections, schema: str, table: str, columns: str) -> None:
    """Make a table if there is none of this name."""
    from hdbcli import dbapi  # type: ignore[import-untyped]

    name = ".".join(quoted(part) for part in (schema, table) if part)
    with connections.lease() as connection:
        if has_table(connection, schema, table):
            return
        try:
            execute(connection, f"CREATE COLUMN TABLE {name} ({columns})")
        except dbapi.Error:
            # Somebody else may have been first.
            if not has_table(connection, schema, table):
                raise


def _checked(value: str, longest: int, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise TogetherAIInputError(f"The {what} {value!r:.80} is no string of 1 to {longest} characters.")
    return value


def in_parts(values: Sequence[_T]) -> Iterator[list[_T]]:
    """The values, as many at a time as one IN takes.

    The last is repeated until there are 1, 10, 100 or 1,000: with so few texts of a statement, the database has
    nearly always seen one before, and need not plan it.
    """
    for begin in range(0, len(values), _LENGTHS[-1]):
        part = list(values[begin : begin + _LENGTHS[-1]])
        length = next(length for length in _LENGTHS if length >= len(part))
        yield part + part[-1:] * (length - len(part))


def marks(values: Sequence[object]) -> str:
    """The parameters of an IN."""
    return ", ".join("?" * len(values))

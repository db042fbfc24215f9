"""The key of a table's rows: which columns it has, and what comes after one in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hana_ai.api.hana.connections import Connection, all_rows
from hana_ai.api.hana.vector_column import in_schema


def primary_key(connection: Connection, schema: str, table: str) -> tuple[str, ...]:
    """The columns of a table's primary key, in its order; empty if it has none."""
    condition, parameters = in_schema(schema)
    rows = all_rows(
        connection,
        f"SELECT COLUMN_NAME FROM SYS.CONSTRAINTS WHERE {condition} AND TABLE_NAME = ? "
        "AND IS_PRIMARY_KEY = 'TRUE' ORDER BY POSITION",
        (*parameters, table),
    )
    return tuple(str(row[0]) for row in rows)


def beyond(
    columns: Sequence[str], key: Sequence[object], operator: Literal[">", ">=", "<", "<="]
) -> tuple[str, list[object]]:
    """The condition for rows on one side of a key, compared column by column, and its parameters.

    Parameters
    ----------
    columns : sequence of str
        The key's, as SQL.
    key : sequence
        A value for each.
    operator : str
        With ``=``, the row of the key itself is among them.
    """
    ways: list[str] = []
    parameters: list[object] = []
    for place, column in enumerate(columns):
        same = [f"{other} = ?" for other in columns[:place]]
        sign = operator if place == len(columns) - 1 else operator[0]
        ways.append(f"({' AND '.join([*same, f'{column} {sign} ?'])})")
        parameters += key[: place + 1]
    return f"({' OR '.join(ways)})", parameters

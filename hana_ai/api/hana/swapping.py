"""Putting a migrated table in the place of the one that it was made from, by renaming.

Where a swap stands is written into the comments of the tables, so that one that was broken off is completed by the
next call: the new table names the old one, and under which name the old one is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, Context, all_rows, connection_of, execute, only_row
from hana_ai.api.hana.table_copy import table_comment
from hana_ai.api.hana.tables import current_schema
from hana_ai.api.storage.quoting import literal, quoted

_MARK = re.compile(r'\s*\[migration of "([^"]+)" with ([^"]+?)(?:, kept as "([^"]+)")?\]$')
_REPLACED = re.compile(r'\s*\[replaced by the migration of "([^"]+)"\]$')


@dataclass(frozen=True)
class Mark:
    """What the comment of a new table says about its migration."""

    table: str
    """The one that it was made from."""
    model: str
    kept: str | None = None
    """The name that the other table gets; None before the swap."""

    @classmethod
    def of(cls, comment: str) -> Mark | None:
        """That of a table's comment, if there is one."""
        found = _MARK.search(comment)
        return cls(found[1], found[2], found[3]) if found else None

    def on(self, comment: str) -> str:
        """A table's comment with this mark."""
        kept = f', kept as "{self.kept}"' if self.kept else ""
        return f'{_MARK.sub("", comment)} [migration of "{self.table}" with {self.model}{kept}]'.strip()


def swap(connection: Connection, schema: str, table: str, to: str, kept: str) -> None:
    """Rename the table to `kept`, and the new one `to` to the table's name.

    Raises
    ------
    TogetherAIInputError
        There is a table `kept` already, or rows were added or deleted meanwhile; then nothing is renamed.
    """
    check_free(connection, schema, kept)
    comment = table_comment(connection, schema, to) or ""
    mark = Mark.of(comment)
    assert mark is not None
    _comment(connection, schema, to, replace(mark, kept=kept).on(comment))
    _rename(connection, schema, table, kept)
    complete_swap(connection, schema, table, to)


def complete_swap(connection: Connection, schema: str, table: str, to: str) -> None:
    """Do what is missing of a swap that was begun; nothing, if none was.

    Raises
    ------
    TogetherAIInputError
        Rows were added or deleted meanwhile; then the old table has its name again.
    """
    comment = table_comment(connection, schema, table)
    if comment is None:
        comment = table_comment(connection, schema, to) or ""
        mark = Mark.of(comment)
        if mark is None or mark.table != table or mark.kept is None:
            return
        # Nobody finds the old table under its name now, so its rows are the last ones.
        if _count(connection, schema, mark.kept) != _count(connection, schema, to):
            _rename(connection, schema, mark.kept, table)
            raise TogetherAIInputError(
                f"Rows of {quoted(schema)}.{quoted(table)} were added or deleted during the swap, so it was left "
                "as it is. Stop what writes to it, and migrate again."
            )
        _rename(connection, schema, to, table)
    mark = Mark.of(comment)
    if mark is None or mark.table != table or mark.kept is None:
        return
    before = table_comment(connection, schema, mark.kept)
    if before is not None and _REPLACED.search(before) is None:
        _comment(connection, schema, mark.kept, f'{before} [replaced by the migration of "{table}"]'.strip())
    _comment(connection, schema, table, _MARK.sub("", comment))


def is_being_swapped(connection: Connection, schema: str, table: str, to: str) -> bool:
    """Whether a swap was broken off between the two names, so that there is no table of the old name."""
    if table_comment(connection, schema, table) is not None:
        return False
    mark = Mark.of(table_comment(connection, schema, to) or "")
    return mark is not None and mark.table == table and mark.kept is not None


def check_free(connection: Connection, schema: str, name: str) -> None:
    """Refuse a name for the old table that is taken.

    Raises
    ------
    TogetherAIInputError
        There is such a table.
    """
    if table_comment(connection, schema, name) is not None:
        raise TogetherAIInputError(
            f"There is a table {quoted(schema)}.{quoted(name)} already, so the old table cannot be kept under "
            "this name. Drop it (drop_replaced or drop-old, if an earlier migration has kept it), or name another "
            "with keep_as=... or --keep-as."
        )


def replaced_tables(connection: Connection, table: str, schema: str) -> list[str]:
    """The names of the tables that migrations of a table have left."""
    commented = "SELECT TABLE_NAME, COMMENTS FROM SYS.TABLES WHERE SCHEMA_NAME = ? AND COMMENTS IS NOT NULL"
    rows = all_rows(connection, commented, (schema,))
    return sorted(
        name for name, comment in rows if (found := _REPLACED.search(comment)) is not None and found[1] == table
    )


def drop_replaced(connection: Connection | Context, table: str, schema: str | None = None) -> list[str]:
    """Drop the tables that were kept when `table` was migrated.

    Parameters
    ----------
    connection : hdbcli.dbapi.Connection or hana_ml.ConnectionContext
    table : str
        The table as it is called now, as before the migration.
    schema : str, optional
        Default: the connection's current schema.

    Returns
    -------
    list of str
        The names of those that were dropped.

    Raises
    ------
    hdbcli.dbapi.Error
        The database refuses.
    """
    connection = connection_of(connection)
    schema = schema or current_schema(connection)
    names = replaced_tables(connection, table, schema)
    for name in names:
        execute(connection, f"DROP TABLE {quoted(schema)}.{quoted(name)}")
    return names


def left_behind(connection: Connection, schema: str, table: str) -> tuple[str, ...]:
    """What belongs to a table, but does not go along with a swap."""
    notes = []
    own = "SCHEMA_NAME = ? AND TABLE_NAME = ?"
    for what, sql in (
        ("Indexes", f"SELECT INDEX_NAME FROM SYS.INDEXES WHERE {own} AND CONSTRAINT IS NULL"),
        ("Constraints", f"SELECT CONSTRAINT_NAME FROM SYS.CONSTRAINTS WHERE {own} AND IS_PRIMARY_KEY = 'FALSE'"),
        ("Foreign keys", f"SELECT CONSTRAINT_NAME FROM SYS.REFERENTIAL_CONSTRAINTS WHERE {own}"),
        (
            "Foreign keys to it",
            "SELECT CONSTRAINT_NAME FROM SYS.REFERENTIAL_CONSTRAINTS WHERE REFERENCED_SCHEMA_NAME = ? "
            "AND REFERENCED_TABLE_NAME = ?",
        ),
        (
            "Triggers",
            "SELECT TRIGGER_NAME FROM SYS.TRIGGERS WHERE SUBJECT_TABLE_SCHEMA = ? AND SUBJECT_TABLE_NAME = ?",
        ),
    ):
        if names := sorted({str(name) for (name,) in all_rows(connection, sql, (schema, table))}):
            notes.append(f"{what} stay with the old table; create them for the new one: {', '.join(names)}.")
    grants = all_rows(
        connection,
        "SELECT PRIVILEGE, GRANTEE FROM SYS.GRANTED_PRIVILEGES WHERE SCHEMA_NAME = ? AND OBJECT_NAME = ? "
        "AND GRANTEE <> CURRENT_USER",
        (schema, table),
    )
    if grants:
        name = f"{quoted(schema)}.{quoted(table)}"
        said = sorted({f"GRANT {privilege} ON {name} TO {quoted(grantee)}" for privilege, grantee in grants})
        notes.append(f"Privileges stay with the old table; grant them again: {'; '.join(said)}.")
    return tuple(notes)


def part_in_migration(comment: str) -> str:
    """What a table's comment says of its part in a migration; empty if it has none."""
    if (mark := Mark.of(comment)) is not None:
        return f"made from {mark.table}, for {mark.model}"
    found = _REPLACED.search(comment)
    return f"kept from before {found[1]} was migrated" if found is not None else ""


def _rename(connection: Connection, schema: str, table: str, to: str) -> None:
    execute(connection, f"RENAME TABLE {quoted(schema)}.{quoted(table)} TO {quoted(to)}")


def _comment(connection: Connection, schema: str, table: str, text: str) -> None:
    execute(connection, f"COMMENT ON TABLE {quoted(schema)}.{quoted(table)} IS {literal(text)}")


def _count(connection: Connection, schema: str, table: str) -> int:
    return int(only_row(connection, f"SELECT COUNT(*) FROM {quoted(schema)}.{quoted(table)}")[0])

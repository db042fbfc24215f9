"""What tables a store consists of, which version of them a database has, and what is missing there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hana_ai.api.errors import TogetherAIError
from hana_ai.api.storage.drivers import Connection, Cursor, Driver

logger = logging.getLogger(__name__)

_VERSION = "VERSION"


class StoreError(TogetherAIError):
    """A database of the ledger or of a cache can't be read or written."""


class UnfitStoreError(StoreError):
    """A database of the ledger or of a cache holds something else, or is a newer version's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table."""

    columns: Mapping[str, str]
    """Types by name, as SAP HANA knows them; SQLite takes any word."""
    key: Sequence[str]
    """The columns of the primary key."""
    indexes: Sequence[str] = ()
    """Statements that are run after it was made."""

    def statements(self, name: str) -> list[str]:
        """What makes it."""
        parts = [f'"{column}" {kind}' for column, kind in self.columns.items()]
        key = ", ".join(f'"{column}"' for column in self.key)
        parts.append(f"PRIMARY KEY ({key})")
        return [f"CREATE TABLE {name} ({', '.join(parts)})", *self.indexes]


ABOUT = Table(columns={"NAME": "NVARCHAR(64) NOT NULL", "VALUE": "NVARCHAR(256) NOT NULL"}, key=("NAME",))
"""What a store says of itself."""


def _nothing(cursor: Cursor, made: Sequence[str]) -> None:
    """Nothing has to be filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of a store, and the version of their meaning."""

    version: int
    about: str
    """Quoted name of the table that has the version."""
    tables: Mapping[str, Table]
    """By quoted name."""
    fill: Callable[[Cursor, Sequence[str]], None] = _nothing
    """Fills tables that were just made from those that older versions had; it is told their names."""

    def prepare(self, connection: Connection, driver: Driver, title: str) -> None:
        """Make what is missing, in one transaction where the database can do that.

        Raises
        ------
        UnfitStoreError
            The tables are not this store's, or of a newer version.
        """
        if not (missing := self._missing(connection, driver, title)):
            return
        cursor = connection.cursor()
        try:
            if driver.begin is not None:
                cursor.execute(driver.begin)
                # Another process may have been first.
                missing = self._missing(connection, driver, title)
            for name in missing:
                for statement in {**self.tables, self.about: ABOUT}[name].statements(name):
                    cursor.execute(statement)
            self.fill(cursor, missing)
            if self.about in missing:
                cursor.execute(f"INSERT INTO {self.about} VALUES (?, ?)", (_VERSION, str(self.version)))
            connection.commit()
        except driver.errors as exc:
            connection.rollback()
            missing = self._missing(connection, driver, title)
            if any(name != self.about for name in missing):
                raise
            # Another process was first, or this one may only read.
            logger.debug("the %s: %s", title, exc)
        except BaseException:
            connection.rollback()
            raise
        finally:
            cursor.close()

    def _missing(self, connection: Connection, driver: Driver, title: str) -> list[str]:
        """The tables that are not there."""
        look = _Looking(connection, driver, title)
        missing = [] if look.is_there(self.about) else [self.about]
        if not missing:
            look.check_columns(self.about, ABOUT)
            self._check_version(connection, title)
        for name, table in self.tables.items():
            if look.is_there(name):
                look.check_columns(name, table)
            else:
                missing.append(name)
        return missing

    def _check_version(self, connection: Connection, title: str) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute(f'SELECT "VALUE" FROM {self.about} WHERE "NAME" = \'{_VERSION}\'')
            found = [row[0] for row in cursor.fetchall()]
        finally:
            cursor.close()
        if len(found) != 1 or not str(found[0]).isdecimal():
            raise UnfitStoreError(f"The {title} does not say its version: it is damaged, or another program's.")
        if int(found[0]) > self.version:
            raise UnfitStoreError(
                f"The {title} has version {found[0]}, and this program knows {self.version}: a newer "
                "hana-ai-together wrote it. Update this one, or name another place."
            )


class _Looking:
    """Asks a database for its tables. Asking for one tells whether it is there in every dialect."""

    def __init__(self, connection: Connection, driver: Driver, title: str) -> None:
        self._connection = connection
        self._driver = driver
        self._title = title

    def is_there(self, table: str) -> bool:
        return self._refusal(f"SELECT COUNT(*) FROM {table} WHERE 1 = 0") is None

    def check_columns(self, name: str, table: Table) -> None:
        # Named with their table: SQLite takes a quoted name that it does not find for a text.
        columns = ", ".join(f't."{column}"' for column in table.columns)
        refusal = self._refusal(f"SELECT {columns} FROM {name} AS t WHERE 1 = 0")
        if refusal is not None:
            raise UnfitStoreError(
                f"The {self._title} can't be used: its table {name} has other columns, so it is another program's "
                f"or another version's ({refusal}). Name another place."
            ) from refusal

    def _refusal(self, statement: str) -> Exception | None:
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement)
            cursor.fetchall()
        except self._driver.errors as exc:
            if self._driver.begin is None:
                # Some databases go on only after a rollback.
                self._connection.rollback()
            return exc
        finally:
            cursor.close()
        return None

"""A loopback HANA, and stores on it whose embeddings come from the scripted Together server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hdbcli import dbapi

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.hana.pytest_plugin import local_hana
from tests.conftest import ScriptedTogether

__all__ = ["local_hana"]

Make = Callable[..., TogetherHanaDB]


@pytest.fixture
def connection(local_hana: LocalHana) -> Iterator[dbapi.Connection]:
    """An open connection; every table of the test is gone afterwards."""
    connection = local_hana.connect()
    yield connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT TABLE_NAME FROM SYS.TABLES WHERE SCHEMA_NAME = CURRENT_SCHEMA")
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP TABLE "{name}" CASCADE')
    connection.close()


@pytest.fixture
def embeddings(together: ScriptedTogether) -> TogetherAIEmbeddings:
    return TogetherAIEmbeddings(model=together.model("embedding"), **together.client)


@pytest.fixture
def make(connection: dbapi.Connection, embeddings: TogetherAIEmbeddings) -> Make:
    """Makes stores over `connection`."""

    def store(**fields: Any) -> TogetherHanaDB:
        return TogetherHanaDB(
            **{"connection": connection, "embedding": embeddings, "table_name": "STORE", **fields}
        )

    return store


def rows(connection: dbapi.Connection, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return [tuple(row) for row in cursor.fetchall()]

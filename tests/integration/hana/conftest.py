"""A loopback HANA, and stores on it whose embeddings come from the scripted Together server."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hdbcli import dbapi

from hana_ai.api import routing
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.hana.pytest_plugin import local_hana
from tests.conftest import ScriptedTogether, export

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
def hana_environment(local_hana: LocalHana, monkeypatch: pytest.MonkeyPatch) -> LocalHana:
    """The server of `local_hana`, with the environment pointing at it."""
    export(monkeypatch, local_hana.environment())
    return local_hana


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


@pytest.fixture
def context(local_hana: LocalHana, connection: dbapi.Connection) -> Iterator[Any]:
    """hana-ml's connection to the same database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hana_ml.dataframe import ConnectionContext
    made = ConnectionContext(**local_hana.connection_options(), vectoroutputtype="list")
    yield made
    made.close()


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toolkit routed to Together during the test."""
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert routing.activate()
    yield
    routing.deactivate()


def run(connection: dbapi.Connection, sql: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)


def rows(connection: dbapi.Connection, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return [tuple(row) for row in cursor.fetchall()]

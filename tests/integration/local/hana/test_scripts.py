"""SQLScript over the wire, as hdbcli, langchain-hana and hana-ml send it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from hana_ml.algorithms.pal.sqlgen import safety_test
from hana_ml.dataframe import ConnectionContext
from hdbcli import dbapi
from langchain_hana import HanaDB, HanaInternalEmbeddings

from hana_ai.api.local.hana.process import LocalHana

pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]


def _rows(cursor: dbapi.Cursor) -> list[tuple[object, ...]]:
    return [tuple(row) for row in cursor.fetchall()]


@pytest.fixture
def cursor(local_hana_connection: dbapi.Connection) -> Iterator[dbapi.Cursor]:
    with local_hana_connection.cursor() as made:
        yield made


def test_callproc_gives_parameters_and_result_sets(cursor: dbapi.Cursor) -> None:
    cursor.execute(
        "CREATE PROCEDURE EVERYTHING (IN a INT, OUT b INT, OUT s NVARCHAR(100), OUT l NCLOB, "
        "INOUT d DECIMAL(10,2), OUT t TABLE (X INT)) AS BEGIN b = :a + 1; s = 'hällo'; l = 'long' || :a; "
        "d = :d * 2; t = SELECT :a AS X FROM DUMMY; SELECT 'shown' AS S FROM DUMMY; END"
    )
    try:
        given = cursor.callproc("EVERYTHING", (3, None, None, None, Decimal("1.5"), None))
        assert given == (3, 4, "hällo", "long3", Decimal("3.00"))
        assert cursor.description[0][0] == "S"
        assert _rows(cursor) == [("shown",)]
        assert cursor.nextset()
        assert _rows(cursor) == [(3,)]
        assert not cursor.nextset()
    finally:
        cursor.execute("DROP PROCEDURE EVERYTHING")


def test_a_block_gives_its_result_sets(cursor: dbapi.Cursor) -> None:
    cursor.execute("DO (IN a INT => ?) BEGIN SELECT :a, :a + 1 FROM DUMMY; SELECT 'x' FROM DUMMY; END;", (21,))
    assert _rows(cursor) == [(21, 22)]
    assert cursor.nextset()
    assert _rows(cursor) == [("x",)]


def test_a_failing_block_has_its_code_and_its_place(cursor: dbapi.Cursor) -> None:
    with pytest.raises(dbapi.Error, match=r"line 2 col 3") as caught:
        cursor.execute("DO BEGIN\n  nothing = :other;\nEND")
    assert caught.value.errorcode == 1287


@pytest.mark.parametrize("kind", ["REAL_VECTOR", "HALF_VECTOR"])
def test_langchain_hana_embeds_with_map_merge(local_hana: LocalHana, kind: str) -> None:
    connection = local_hana.connect()
    embeddings = HanaInternalEmbeddings("SAP_NEB.20240715")
    store = HanaDB(connection, embeddings, table_name=f"MERGED_{kind}", vector_column_type=kind)
    store.add_texts(["red apples", "blue whales"], [{"n": 1}, {"n": 2}], use_map_merge=True)
    found = store.similarity_search("whales in the sea", k=1)
    assert (found[0].page_content, found[0].metadata) == ("blue whales", {"n": 2})
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM SYS.FUNCTIONS WHERE FUNCTION_NAME LIKE 'F\\_VECTOR%' ESCAPE '\\'")
        assert _rows(cursor) == [(0,)]
    connection.close()


def test_hana_ml_sends_blocks_and_functions(local_hana: LocalHana) -> None:
    context = ConnectionContext(**local_hana.connection_options())
    frame = context.sql(
        "CREATE FUNCTION GIVEN (a INT) RETURNS TABLE (X INT) AS BEGIN RETURN SELECT :a AS X FROM DUMMY; END;"
        "SELECT * FROM GIVEN(4)"
    )
    assert list(frame.collect()["X"]) == [4]
    with context.connection.cursor() as cursor:
        cursor.execute(safety_test(frame))
        cursor.execute("DROP FUNCTION GIVEN")
    context.close()

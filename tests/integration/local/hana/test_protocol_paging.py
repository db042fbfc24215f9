"""Large results of the real engine: fetched in pages, never held whole by the server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana.process import LocalHana
from tests.integration.local.hana.conftest import memory_of

ROWS = 3000
PRODUCT = "SELECT A.ID AS A, B.ID AS B, A.TEXT FROM T AS A CROSS JOIN T AS B"
"""Nine million rows of a hundred bytes."""


@pytest.fixture(scope="module")
def hana() -> Iterator[LocalHana]:
    with LocalHana() as server:
        connection = server.connect()
        with connection.cursor() as cursor:
            cursor.execute("CREATE COLUMN TABLE T (ID INTEGER, TEXT NVARCHAR(200))")
            cursor.executemany("INSERT INTO T VALUES (?, ?)", [(n, "x" * 100) for n in range(ROWS)])
        connection.close()
        yield server


@pytest.fixture
def connection(hana: LocalHana) -> Iterator[dbapi.Connection]:
    connection = hana.connect()
    yield connection
    connection.close()


def processor_seconds(hana: LocalHana) -> float:
    """What the server has used: others may be busy on this machine."""
    after_the_name = Path(f"/proc/{hana.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_the_name[11]) + int(after_the_name[12])) / os.sysconf("SC_CLK_TCK")


def test_a_hundred_thousand_rows_arrive_whole_and_in_order(connection: dbapi.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"{PRODUCT} WHERE A.ID < 34 ORDER BY A, B")
        rows = cursor.fetchall()
    assert len(rows) == 34 * ROWS
    assert [tuple(row)[:2] for row in rows[:: ROWS + 1]] == [(n, n) for n in range(34)]


def test_the_start_of_a_large_result_takes_neither_time_nor_memory(
    hana: LocalHana, connection: dbapi.Connection
) -> None:
    before = memory_of(hana, peak=True)
    used = processor_seconds(hana)
    with connection.cursor() as cursor:
        cursor.execute(PRODUCT)
        assert len(cursor.fetchmany(5000)) == 5000
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM T")
        assert cursor.fetchone()[0] == ROWS
    assert processor_seconds(hana) - used < 5
    assert memory_of(hana, peak=True) - before < 100_000_000


def test_a_result_is_read_on_while_others_run_on_the_connection(connection: dbapi.Connection) -> None:
    with connection.cursor() as first, connection.cursor() as second:
        first.execute(f"{PRODUCT} WHERE A.ID < 20")
        read = len(first.fetchmany(100))
        second.execute("INSERT INTO T VALUES (-1, 'new')")
        second.execute("DELETE FROM T WHERE ID = -1")
        read += len(first.fetchall())
    assert read == 20 * ROWS


def test_a_result_outlives_commit_and_rollback(hana: LocalHana) -> None:
    connection = hana.connect(autocommit=False)
    with connection.cursor() as cursor, connection.cursor() as writer:
        writer.execute("INSERT INTO T VALUES (-1, 'not for long')")
        cursor.execute(f"{PRODUCT} WHERE A.ID BETWEEN 0 AND 9 AND B.ID >= 0")
        read = len(cursor.fetchmany(10))
        connection.rollback()
        read += len(cursor.fetchmany(10))
        connection.commit()
        read += len(cursor.fetchall())
    connection.close()
    assert read == 10 * ROWS

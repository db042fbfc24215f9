"""What is committed survives `kill -9`, what is not does not, and the server opens its file again."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana.process import LocalHana

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows")


def numbers(connection: dbapi.Connection) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ID FROM T ORDER BY ID")
        return [row[0] for row in cursor.fetchall()]


def kill(hana: LocalHana) -> None:
    assert hana.pid is not None
    os.kill(hana.pid, signal.SIGKILL)
    hana.stop()


def test_committed_rows_survive_a_kill_and_uncommitted_ones_do_not(tmp_path: Path) -> None:
    file = tmp_path / "data.duckdb"
    hana = LocalHana(file).start()
    with hana.connect().cursor() as cursor:
        cursor.execute("CREATE COLUMN TABLE T (ID INTEGER PRIMARY KEY, TEXT NVARCHAR(20), V REAL_VECTOR(2))")
        cursor.executemany("INSERT INTO T VALUES (?, ?, ?)", [(n, "😀", [n, 0.5]) for n in range(100)])
    manual = hana.connect(autocommit=False)
    with manual.cursor() as cursor:
        cursor.execute("INSERT INTO T VALUES (100, 'committed', NULL)")
        manual.commit()
        cursor.execute("INSERT INTO T VALUES (101, 'not committed', NULL)")
        kill(hana)
    with LocalHana(file) as again:
        connection = again.connect()
        assert numbers(connection) == list(range(101))
        with connection.cursor() as cursor:
            cursor.execute("SELECT TEXT, CARDINALITY(V) FROM T WHERE ID = 7")
            assert tuple(cursor.fetchone()) == ("😀", 2)
            cursor.execute("INSERT INTO T VALUES (101, 'now', NULL)")
        connection.close()
    with LocalHana(file) as third:
        connection = third.connect()
        assert numbers(connection) == list(range(102))
        connection.close()


def test_killed_while_writing_the_file_holds_whole_transactions(tmp_path: Path) -> None:
    file = tmp_path / "data.duckdb"
    hana = LocalHana(file).start()
    connection = hana.connect(autocommit=False)
    committed = 0
    with connection.cursor() as cursor:
        cursor.execute("CREATE COLUMN TABLE T (ID INTEGER)")
        connection.commit()
        for number in range(40):
            cursor.executemany("INSERT INTO T VALUES (?)", [(number,)] * 10)
            if number == 30:
                kill(hana)
                break
            connection.commit()
            committed = number + 1
    with LocalHana(file) as again:
        connection = again.connect()
        found = numbers(connection)
        connection.close()
    assert found == [number for number in range(committed) for _ in range(10)]

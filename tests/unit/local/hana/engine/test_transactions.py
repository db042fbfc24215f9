"""Transactions: statement-level rollback, isolation, conflicts, durability."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from hana_ai.api.local.hana.interface import HanaError
from tests.unit.local.hana.engine_support import Sql, engine, other, sql

__all__ = ["engine", "other", "sql"]

PATIENTLY = pytest.mark.parametrize("lock_timeout", [30.0])


@pytest.fixture
def table(sql: Sql) -> Sql:
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY, TXT NVARCHAR(20), N INTEGER)")
    return sql


def test_a_failing_statement_leaves_the_transaction_as_it_was(table: Sql) -> None:
    table.run("INSERT INTO T VALUES (1, 'one', 1)")
    table.run("INSERT INTO T VALUES (2, 'two', 2)")
    table.run("UPDATE T SET TXT = 'uno' WHERE ID = 1")
    assert table.code("INSERT INTO T VALUES (2, 'again', 0)") == 301
    assert table.session.in_transaction
    table.run("DELETE FROM T WHERE ID = 2")
    assert table.code("SELECT 1 / (N - 1) FROM T") == 304
    table.run("INSERT INTO T VALUES (3, 'three', 3)")
    table.session.commit()
    assert table.rows("SELECT ID, TXT FROM T ORDER BY ID") == [(1, "uno"), (3, "three")]


def test_replayed_rows_are_the_rows_that_were_written(table: Sql) -> None:
    table.done("CREATE SEQUENCE S")
    table.run("INSERT INTO T SELECT S.NEXTVAL, 'random', CAST(RAND() * 1000000 AS INTEGER) FROM DUMMY")
    table.run("INSERT INTO T VALUES (100, TO_NVARCHAR(CURRENT_TIMESTAMP, 'HH24:MI:SS'), 1)")
    before = table.rows("SELECT * FROM T ORDER BY ID")
    for _ in range(3):
        assert table.code("INSERT INTO T VALUES (100, 'x', 1)") == 301
    assert table.rows("SELECT * FROM T ORDER BY ID") == before
    table.session.commit()
    assert table.rows("SELECT * FROM T ORDER BY ID") == before


@pytest.mark.parametrize("default", ["", " DEFAULT TRUE"], ids=["rows-of-parameters", "with-a-default"])
def test_large_and_wide_rows_survive_a_replay(sql: Sql, default: str) -> None:
    sql.done(
        "CREATE TABLE W (ID INTEGER PRIMARY KEY, V REAL_VECTOR(8), D DECIMAL(38, 10), B BLOB, L NCLOB, "
        f"AT TIMESTAMP, DAY DATE, T TIME, OK BOOLEAN{default}, S SECONDDATE, TI TINYINT, R REAL, F DECIMAL)"
    )
    rows = [
        (
            number, np.arange(8, dtype=np.float32) + number, f"{number}.0123456789",
            bytes([number % 256]) * 10, "😀" * 5,
            "2024-02-29 01:02:03.456789", "1582-10-15", "23:59:59", number % 2 == 0,
            "9999-12-31 23:59:59", 255, 1.5, "0.1",
        )
        for number in range(500)
    ]  # fmt: skip
    insert = f"INSERT INTO W VALUES ({', '.join('?' * 13)})"
    sql.run(insert, *rows)
    before = [str(row) for row in sql.rows("SELECT * FROM W ORDER BY ID")]
    assert sql.code("INSERT INTO W (ID) VALUES (7)") == 301
    assert [str(row) for row in sql.rows("SELECT * FROM W ORDER BY ID")] == before
    sql.run("UPDATE W SET OK = NULL")
    assert sql.code("INSERT INTO W (ID) VALUES (7)") == 301
    assert sql.value("SELECT COUNT(*) FROM W WHERE OK IS NULL") == 500
    sql.run(insert, *((n + 500, *rest) for n, *rest in rows))
    assert sql.code("INSERT INTO W (ID) VALUES (7)") == 301
    assert sql.value("SELECT COUNT(*) FROM W") == 1000
    sql.run("DELETE FROM W WHERE ID >= 250")
    assert sql.code("INSERT INTO W (ID) VALUES (7)") == 301
    assert sql.value("SELECT COUNT(*) FROM W") == 250
    sql.session.rollback()
    assert sql.value("SELECT COUNT(*) FROM W") == 0


def test_rows_with_literals_survive_a_replay(sql: Sql) -> None:
    sql.done(
        "CREATE TABLE N (SPACE NVARCHAR(20), ID INTEGER, SHARE DECIMAL(10, 2), NOTE NVARCHAR(20), "
        "PRIMARY KEY (SPACE, ID))"
    )
    for space in ("''", "'it''s'", "'$rid ?'"):
        sql.run(
            f"INSERT INTO N VALUES ({space}, ?, 1.50, ?)", *((number, f"row {number}") for number in range(100))
        )
        before = sql.rows("SELECT * FROM N ORDER BY SPACE, ID")
        assert sql.code("INSERT INTO N (SPACE, ID) VALUES ('', 7)") == 301
        assert sql.rows("SELECT * FROM N ORDER BY SPACE, ID") == before
    sql.session.commit()
    assert sql.rows("SELECT SPACE, COUNT(*), SUM(SHARE) FROM N GROUP BY SPACE ORDER BY SPACE") == [
        (space, 100, 150) for space in ("", "$rid ?", "it's")
    ]


def test_batches_beyond_what_is_kept_survive_a_replay(sql: Sql) -> None:
    sql.done("CREATE TABLE L (ID INTEGER PRIMARY KEY, TXT NCLOB)")
    rows = [(number, chr(ord("a") + number % 26) * 200_000) for number in range(450)]
    for begin in range(0, 450, 150):
        sql.run("INSERT INTO L VALUES (?, ?)", *rows[begin : begin + 150])
    for _ in range(2):
        assert sql.code("INSERT INTO L (ID) VALUES (7)") == 301
    sql.session.commit()
    count = "SELECT COUNT(*), COUNT(DISTINCT ID), MIN(LENGTH(TXT)), MAX(LENGTH(TXT)) FROM L"
    assert sql.rows(count) == [(450, 450, 200_000, 200_000)]
    found = dict(sql.rows("SELECT ID, SUBSTRING(TXT, 1, 1) FROM L"))
    assert found == {number: text[0] for number, text in rows}


def test_a_failing_batch_writes_nothing(table: Sql) -> None:
    table.run("INSERT INTO T VALUES (50, 'kept', 0)")
    with pytest.raises(HanaError) as caught:
        table.run("INSERT INTO T VALUES (?, ?, ?)", (1, "a", 1), (50, "b", 2), (2, "c", 3))
    assert caught.value.code == 301
    assert caught.value.rows_affected == [0, -3, 0]
    with pytest.raises(HanaError) as too_long:
        table.run("INSERT INTO T VALUES (?, ?, ?)", (1, "a", 1), (2, "b" * 21, 2))
    assert too_long.value.code == 274
    assert too_long.value.rows_affected == [0, -3]
    with pytest.raises(HanaError) as updating:
        table.run("UPDATE T SET N = 1 / ? WHERE ID = 50", (1,), (0,))
    assert updating.value.code == 304
    assert table.rows("SELECT * FROM T") == [(50, "kept", 0)]


def test_rollback_undoes_everything_and_ddl_commits(table: Sql, other: Sql) -> None:
    table.run("INSERT INTO T VALUES (1, 'a', 1)")
    table.session.rollback()
    assert table.value("SELECT COUNT(*) FROM T") == 0
    table.run("INSERT INTO T VALUES (1, 'a', 1)")
    assert other.value("SELECT COUNT(*) FROM T") == 0
    table.run("CREATE TABLE U (A INTEGER)")
    assert other.value("SELECT COUNT(*) FROM T") == 1


def test_readers_see_what_is_committed(table: Sql, other: Sql) -> None:
    other.run("SELECT COUNT(*) FROM T")
    table.run("INSERT INTO T VALUES (1, 'a', 1)")
    assert other.value("SELECT COUNT(*) FROM T") == 0
    table.session.commit()
    assert other.value("SELECT COUNT(*) FROM T") == 1
    assert not other.session.in_transaction


def test_an_open_result_stays_readable(table: Sql) -> None:
    table.done("INSERT INTO T SELECT ELEMENT_NUMBER, 'x', 1 FROM SERIES_GENERATE_INTEGER(1, 0, 25000)")
    rows = table.run("SELECT ID FROM T ORDER BY ID").rows
    assert rows is not None
    assert next(rows)[0] == 1
    table.done("DELETE FROM T WHERE ID > 10")
    assert sum(1 for _ in rows) == 24_999
    assert table.value("SELECT COUNT(*) FROM T") == 10


@PATIENTLY
def test_a_change_waits_for_the_row(table: Sql, other: Sql) -> None:
    table.done("INSERT INTO T VALUES (1, 'a', 1)")
    table.run("UPDATE T SET N = N + 1 WHERE ID = 1")
    started = time.monotonic()
    threading.Timer(0.1, table.session.commit).start()
    other.run("UPDATE T SET N = N + 10 WHERE ID = 1")
    assert time.monotonic() - started >= 0.1
    other.session.commit()
    assert table.value("SELECT N FROM T") == 12


def test_a_change_does_not_wait_for_ever(table: Sql, other: Sql) -> None:
    table.done("INSERT INTO T VALUES (1, 'a', 1), (2, 'b', 2)".replace(", (2, 'b', 2)", ""))
    table.run("UPDATE T SET N = 5 WHERE ID = 1")
    assert other.code("UPDATE T SET N = 6 WHERE ID = 1") == 131
    assert not other.session.in_transaction
    table.session.commit()
    other.done("UPDATE T SET N = 6 WHERE ID = 1")


def test_for_update_holds_the_row(table: Sql, other: Sql) -> None:
    table.done("INSERT INTO T VALUES (?, ?, ?)", (1, "a", 1), (2, "b", 2))
    assert table.rows("SELECT N FROM T WHERE ID = ? FOR UPDATE", 1) == [(1,)]
    assert table.session.in_transaction
    other.done("UPDATE T SET N = 20 WHERE ID = 2")
    assert other.code("UPDATE T SET N = 6 WHERE ID = 1") == 131
    table.session.commit()
    other.done("UPDATE T SET N = 6 WHERE ID = 1")
    assert other.code("SELECT COUNT(*) FROM T GROUP BY N FOR UPDATE") == 7


@PATIENTLY
def test_waiting_keeps_the_earlier_changes(table: Sql, other: Sql) -> None:
    table.done("INSERT INTO T VALUES (1, 'a', 1)")
    table.run("UPDATE T SET N = N + 1 WHERE ID = 1")
    other.run("INSERT INTO T VALUES (2, 'mine', 2)")
    threading.Timer(0.1, table.session.commit).start()
    other.run("UPDATE T SET N = N + 10 WHERE ID = 1")
    other.session.commit()
    assert table.rows("SELECT ID, N FROM T ORDER BY ID") == [(1, 12), (2, 2)]


def test_different_rows_do_not_disturb_each_other(table: Sql, other: Sql) -> None:
    table.done("INSERT INTO T VALUES (?, ?, ?)", (1, "a", 1), (2, "b", 2))
    table.run("UPDATE T SET N = 10 WHERE ID = 1")
    other.run("UPDATE T SET N = 20 WHERE ID = 2")
    table.session.commit()
    other.session.commit()
    assert table.rows("SELECT N FROM T ORDER BY ID") == [(10,), (20,)]


def test_two_inserts_of_one_key(table: Sql, other: Sql) -> None:
    table.run("INSERT INTO T VALUES (1, 'a', 1)")
    other.run("INSERT INTO T VALUES (1, 'b', 1)")
    table.session.commit()
    with pytest.raises(HanaError) as caught:
        other.session.commit()
    assert caught.value.code == 301
    assert table.rows("SELECT TXT FROM T") == [("a",)]


@PATIENTLY
def test_many_sessions_count_up(engine: DuckDBEngine, table: Sql) -> None:
    table.done("INSERT INTO T VALUES (1, 'counter', 0)")

    def work(number: int) -> None:
        mine = Sql(engine.session("DBADMIN", 100 + number))
        for _ in range(25):
            mine.done("UPDATE T SET N = N + 1 WHERE ID = 1")
            mine.done("INSERT INTO T VALUES (?, 'x', 0)", (1000 + number * 100 + _,))
        mine.session.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert table.value("SELECT N FROM T WHERE ID = 1") == 200
    assert table.value("SELECT COUNT(*) FROM T") == 201


def test_closing_drops_temporary_tables_and_rolls_back(engine: DuckDBEngine, table: Sql) -> None:
    second = Sql(engine.session("DBADMIN", 9))
    second.run("CREATE LOCAL TEMPORARY TABLE #X (A INTEGER)")
    second.run("INSERT INTO T VALUES (1, 'a', 1)")
    second.session.close()
    second.session.close()
    assert table.value("SELECT COUNT(*) FROM T") == 0
    assert table.code("SELECT * FROM #X") == 259


_CHILD = """
import os, sys
from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.engine.engine import DuckDBEngine
engine = DuckDBEngine(sys.argv[1])
engine.ensure_user("DBADMIN", derive("x"), admin=True)
session = engine.session("DBADMIN", 1)
def run(sql):
    session.execute(session.prepare(sql))
run('CREATE TABLE T (ID INTEGER PRIMARY KEY, "text" NVARCHAR(10), V REAL_VECTOR(2), '
    'C BIGINT GENERATED BY DEFAULT AS IDENTITY)')
run("CREATE SEQUENCE S START WITH 10")
run('CREATE VIEW W AS SELECT "text" FROM T')
run("CREATE USER ANN PASSWORD \\"Secret1x\\"")
run("GRANT SELECT ON T TO ANN")
run("INSERT INTO T (ID, \\"text\\", V) VALUES (1, 'kept', TO_REAL_VECTOR('[1,2]'))")
session.commit()
run("INSERT INTO T (ID, \\"text\\") VALUES (2, 'lost')")
os.kill(os.getpid(), 9)
"""


def test_a_file_survives_kill_minus_9(tmp_path: Path) -> None:
    path = tmp_path / "data.duckdb"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, check=False
        )
        if _ == 0:
            assert done.returncode == -9, done.stderr
    engine = DuckDBEngine(str(path))
    try:
        assert engine.credentials("ANN") is not None
        sql = Sql(engine.session("DBADMIN", 1))
        assert sql.rows('SELECT ID, "text", C FROM T') == [(1, "kept", 1)]
        assert sql.types("SELECT * FROM T") == ["INTEGER", "NVARCHAR(10)", "REAL_VECTOR(2)", "BIGINT"]
        assert sql.rows("SELECT * FROM W") == [("kept",)]
        sql.done("INSERT INTO T (ID, \"text\") VALUES (3, 'new')")
        assert sql.value("SELECT COUNT(*) FROM T") == 2
        assert sql.code("INSERT INTO T (ID) VALUES (1)") == 301
        assert sql.value("SELECT S.NEXTVAL FROM DUMMY") >= 10
        ann = Sql(engine.session("ANN", 2))
        assert ann.value('SELECT COUNT(*) FROM "DBADMIN".T') == 2
        assert ann.code('DELETE FROM "DBADMIN".T') == 258
    finally:
        engine.close()


def test_a_temporary_table_is_emptied_and_filled_again_in_one_transaction(sql: Sql) -> None:
    sql.done('CREATE LOCAL TEMPORARY COLUMN TABLE "#B" (A INTEGER, B REAL_VECTOR(2))')
    sql.done("INSERT INTO \"#B\" VALUES (1, TO_REAL_VECTOR('[1,2]'))")
    sql.run('DELETE FROM "#B"')
    sql.run('INSERT INTO "#B" (A) VALUES (?)', (2,), (3,))
    assert sql.code('INSERT INTO "#B" (A) VALUES (?)', ("no number",)) == 339
    sql.session.commit()
    assert sql.rows('SELECT A FROM "#B" ORDER BY A') == [(2,), (3,)]


def test_a_file_is_opened_again(tmp_path: Path) -> None:
    path = str(tmp_path / "again.duckdb")
    for number in range(3):
        engine = DuckDBEngine(path)
        engine.ensure_user("DBADMIN", derive("x"), admin=True)
        sql = Sql(engine.session("DBADMIN", 1))
        if number == 0:
            sql.done("CREATE TABLE T (A INTEGER)")
        sql.done("INSERT INTO T VALUES (?)", (number,))
        assert sql.value("SELECT COUNT(*) FROM T") == number + 1
        assert sql.value('SELECT COUNT(DISTINCT "$rowid$") FROM T') == number + 1
        engine.close()

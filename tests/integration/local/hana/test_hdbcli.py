"""hdbcli, unmodified, over TCP against the whole server: values, LOBs, errors, transactions."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana.process import LocalHana

pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]


@pytest.fixture
def connection(local_hana: LocalHana) -> Iterator[dbapi.Connection]:
    made = local_hana.connect()
    with made.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS T CASCADE")
    yield made
    if made.isconnected():
        made.close()


def _run(connection: dbapi.Connection, sql: str, *parameters: Any) -> dbapi.Cursor:
    cursor = connection.cursor()
    cursor.execute(sql, parameters) if parameters else cursor.execute(sql)
    return cursor


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        ("TINYINT", [0, 255]),
        ("SMALLINT", [-(2**15), 2**15 - 1]),
        ("INTEGER", [-(2**31), 2**31 - 1]),
        ("BIGINT", [-(2**63), 2**63 - 1]),
        ("DECIMAL(18, 4)", [Decimal("-99999999999999.9999"), Decimal("0.0001")]),
        ("DECIMAL(28, 0)", [Decimal("9" * 28)]),
        ("DECIMAL(38, 10)", [Decimal("-" + "9" * 28 + "." + "9" * 10), Decimal("1E-10")]),
        ("DECIMAL", [Decimal("0.1"), Decimal("-123456789.123456789")]),
        ("REAL", [0.5, -1.25]),
        ("DOUBLE", [1.7976931348623157e308, -5e-324, 0.1]),
        ("BOOLEAN", [True, False]),
        ("NVARCHAR(5000)", ["", "ä", "😀" * 2500, "\x00\n'\"?", "x" * 5000]),
        ("VARCHAR(10)", ["abc"]),
        ("NCLOB", ["", "😀ä" * 100_000, "z" * 5_000_000]),
        ("CLOB", ["text"]),
        ("VARBINARY(5000)", [b"\x00\xff" * 2500]),
        ("BLOB", [bytes(range(256)) * 20_000]),
        (
            "DATE",
            [dt.date(1, 1, 1), dt.date(1582, 10, 4), dt.date(1582, 10, 15), dt.date(1900, 2, 28),
             dt.date(9999, 12, 31)],
        ),
        ("TIME", [dt.time(0, 0, 0), dt.time(23, 59, 59)]),
        ("SECONDDATE", [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)]),
        (
            "TIMESTAMP",
            [dt.datetime(1, 1, 1), dt.datetime(1582, 10, 15, 1, 2, 3, 4),
             dt.datetime(9999, 12, 31, 23, 59, 59, 999999)],
        ),
    ],
)  # fmt: skip
def test_every_type_in_and_out(connection: dbapi.Connection, declared: str, values: list[Any]) -> None:
    _run(connection, f"CREATE TABLE T (ID INTEGER, A {declared})")
    rows = [(number, value) for number, value in enumerate([*values, None])]
    for row in rows:
        _run(connection, "INSERT INTO T VALUES (?, ?)", *row)
    connection.cursor().executemany(
        "INSERT INTO T VALUES (?, ?)", [(number + 100, value) for number, value in rows]
    )
    found = _run(connection, "SELECT ID, A FROM T ORDER BY ID").fetchall()
    for (_, raw), (_, sent) in zip(found, rows + rows, strict=True):
        got = bytes(raw) if isinstance(raw, memoryview) else raw
        assert got == sent
        assert type(got) is type(sent)


@pytest.mark.parametrize(
    ("declared", "letter", "output"), [("REAL_VECTOR", "f", "list"), ("HALF_VECTOR(3)", "e", "memoryview")]
)
def test_vectors_in_and_out(local_hana: LocalHana, declared: str, letter: str, output: str) -> None:
    connection = local_hana.connect(vectoroutputtype=output)
    _run(connection, "DROP TABLE IF EXISTS T")
    _run(connection, f"CREATE TABLE T (ID INTEGER, V {declared})")
    sent = struct.pack(f"<I3{letter}", 3, 1, 0.5, -2)
    _run(connection, "INSERT INTO T VALUES (1, ?)", sent)
    _run(connection, "INSERT INTO T VALUES (2, NULL)")
    to_vector = f"TO_{declared.partition('(')[0]}"
    _run(connection, f"INSERT INTO T VALUES (3, {to_vector}('[1, 0.5, -2]'))")
    _run(connection, f"INSERT INTO T VALUES (4, {to_vector}(?))", "[1, 0.5, -2]")
    found = [row[0] for row in _run(connection, "SELECT V FROM T ORDER BY ID").fetchall()]
    assert found[1] is None
    for value in (found[0], found[2], found[3]):
        assert (list(value) if output == "list" else bytes(value)) == ([1, 0.5, -2] if output == "list" else sent)
    connection.close()


ERRORS: dict[type[Exception], dict[str, int]] = {
    dbapi.ProgrammingError: {
        "SELEC": 257,
        "SELECT * FROM MISSING": 259,
        "SELECT MISSING FROM DUMMY": 260,
        "SELECT TO_INTEGER('x') FROM DUMMY": 339,
    },
    dbapi.IntegrityError: {"INSERT INTO T VALUES (1, 'x')": 301},
    dbapi.DataError: {
        "INSERT INTO T VALUES (2, 'toolong')": 274,
        "INSERT INTO T VALUES (NULL, 'x')": 287,
        "SELECT 1 / 0 FROM DUMMY": 304,
        "SELECT 2147483647 + 1 FROM DUMMY": 314,
    },
    dbapi.NotSupportedError: {"CREATE TRIGGER X AFTER INSERT ON T BEGIN END": 7},
    dbapi.Error: {"SELECT NONSENSE(1) FROM DUMMY": 328, "SET SCHEMA NOWHERE": 362},
}


@pytest.mark.parametrize(
    ("statement", "expected", "code"),
    [(statement, expected, code) for expected, codes in ERRORS.items() for statement, code in codes.items()],
)
def test_errors_raise_hdbclis_classes(
    connection: dbapi.Connection, statement: str, expected: type[Exception], code: int
) -> None:
    _run(connection, "CREATE TABLE T (ID INTEGER PRIMARY KEY, A NVARCHAR(3))")
    _run(connection, "INSERT INTO T VALUES (1, 'a')")
    with pytest.raises(expected) as caught:
        _run(connection, statement)
    assert caught.value.errorcode == code
    assert _run(connection, "SELECT COUNT(*) FROM T").fetchone()[0] == 1


def test_named_parameters_description_and_rowcount(connection: dbapi.Connection) -> None:
    _run(connection, 'CREATE TABLE T (ID INTEGER, "text" NVARCHAR(7), D DECIMAL(9, 2))')
    cursor = connection.cursor()
    cursor.execute("INSERT INTO T VALUES (:id, :text, :id)", {"id": 4, "text": "x"})
    assert cursor.rowcount == 1
    cursor.execute("SELECT * FROM T WHERE ID = :id", {"id": 4})
    assert [column[0] for column in cursor.description] == ["ID", "text", "D"]
    assert [column[1] for column in cursor.description] == [3, 11, 5]
    assert cursor.description[2][4:6] == (9, 2)
    assert tuple(cursor.fetchone()) == (4, "x", Decimal("4.00"))


def test_batches_are_atomic_and_report_the_wrong_row(connection: dbapi.Connection) -> None:
    _run(connection, "CREATE TABLE T (ID INTEGER PRIMARY KEY, A NVARCHAR(3))")
    cursor = connection.cursor()
    with pytest.raises(dbapi.IntegrityError):
        cursor.executemany("INSERT INTO T VALUES (?, ?)", [(1, "a"), (1, "b"), (2, "c")])
    assert _run(connection, "SELECT COUNT(*) FROM T").fetchone()[0] == 0
    with pytest.raises(dbapi.ExecuteManyError):
        cursor.executemany("INSERT INTO T VALUES (?, ?)", [(1, "a"), (2, "toolong")], batcherrors=True)
    cursor.executemany("INSERT INTO T VALUES (?, ?)", [(number, "x") for number in range(5_000)])
    assert cursor.rowcount == 5_000
    assert _run(connection, "SELECT COUNT(*) FROM T").fetchone()[0] == 5_000


def test_large_batches_in_many_messages_are_one(connection: dbapi.Connection) -> None:
    _run(connection, "CREATE TABLE T (ID INTEGER PRIMARY KEY, A NVARCHAR(2000))")
    rows = [(number, "y" * 2000) for number in range(3_000)]
    rows[-1] = (0, "duplicate")
    with pytest.raises(dbapi.IntegrityError):
        connection.cursor().executemany("INSERT INTO T VALUES (?, ?)", rows)
    assert _run(connection, "SELECT COUNT(*) FROM T").fetchone()[0] == 0


def test_transactions_over_two_connections(connection: dbapi.Connection, local_hana: LocalHana) -> None:
    _run(connection, "CREATE TABLE T (ID INTEGER PRIMARY KEY)")
    connection.setautocommit(False)
    other = local_hana.connect()
    _run(connection, "INSERT INTO T VALUES (1)")
    with pytest.raises(dbapi.IntegrityError):
        _run(connection, "INSERT INTO T VALUES (1)")
    _run(connection, "INSERT INTO T VALUES (2)")
    assert _run(other, "SELECT COUNT(*) FROM T").fetchone()[0] == 0
    connection.commit()
    assert _run(other, "SELECT COUNT(*) FROM T").fetchone()[0] == 2
    _run(connection, "DELETE FROM T")
    connection.rollback()
    assert _run(other, "SELECT COUNT(*) FROM T").fetchone()[0] == 2
    other.close()


def test_big_results_arrive_whole(connection: dbapi.Connection) -> None:
    cursor = _run(connection, "SELECT ELEMENT_NUMBER FROM SERIES_GENERATE_INTEGER(1, 0, 150000) ORDER BY 1")
    assert sum(row[0] for row in cursor.fetchall()) == 150_000 * 150_001 // 2


def test_two_open_cursors(connection: dbapi.Connection) -> None:
    first = _run(connection, "SELECT ELEMENT_NUMBER FROM SERIES_GENERATE_INTEGER(1, 0, 30000) ORDER BY 1")
    assert first.fetchone()[0] == 1
    second = _run(connection, "SELECT 5 FROM DUMMY")
    assert second.fetchone()[0] == 5
    assert len(first.fetchall()) == 29_999


def test_other_users(connection: dbapi.Connection, local_hana: LocalHana) -> None:
    _run(connection, "CREATE TABLE T (ID INTEGER)")
    _run(connection, "DROP USER IF EXISTS ANN CASCADE")
    _run(connection, 'CREATE USER ANN PASSWORD "Secret1x" NO FORCE_FIRST_PASSWORD_CHANGE')
    ann = local_hana.connect(user="ann", password="Secret1x")
    with pytest.raises(dbapi.Error) as caught:
        _run(ann, "SELECT * FROM DBADMIN.T")
    assert caught.value.errorcode == 258
    _run(connection, "GRANT SELECT ON T TO ANN")
    assert _run(ann, "SELECT * FROM DBADMIN.T").fetchall() == []
    ann.close()
    with pytest.raises(dbapi.Error) as wrong:
        local_hana.connect(user="ANN", password="Wrong1xx")
    assert wrong.value.errorcode == 10


def test_data_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.duckdb"
    for number in range(2):
        with LocalHana(path) as server:
            connection = server.connect()
            if number == 0:
                _run(connection, "CREATE TABLE KEPT (A NVARCHAR(9), V REAL_VECTOR(2))")
                _run(connection, "INSERT INTO KEPT VALUES ('x', TO_REAL_VECTOR('[1,2]'))")
            assert _run(connection, "SELECT A FROM KEPT").fetchone()[0] == "x"
            connection.close()

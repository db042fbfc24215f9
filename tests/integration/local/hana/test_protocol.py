"""Statements, transactions, batches, result sets and errors as the real hdbcli sees them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hdbcli import dbapi

from tests.integration.local.hana.conftest import USER, Scripted, run_scripted, state_of

Connect = Callable[..., dbapi.Connection]

PIECES = 3000
"""Rows of 1.5 KB that hdbcli cuts into several messages."""


def run(connection: dbapi.Connection, sql: str, *parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, *parameters)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


# Login


@pytest.mark.parametrize("user", [USER, USER.lower(), f'"{USER}"'])
def test_the_right_password_connects(connect: Connect, user: str) -> None:
    assert connect(user=user).isconnected()


@pytest.mark.parametrize("method", ["SCRAMSHA256", "SCRAMPBKDF2SHA256"])
def test_both_methods_let_in_the_right_password_only(method: str) -> None:
    with run_scripted("--method", method) as server:
        connection = server.connect()
        assert run(connection, "query([INTEGER], [(1,)])") == [(1,)]
        connection.close()
        with pytest.raises(dbapi.Error, match="authentication failed"):
            server.connect(password="wrong")


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("NOBODY", None), (f'"{USER.lower()}"', None)])
def test_a_wrong_login_is_error_10(connect: Connect, scripted: Scripted, user: str, password: str | None) -> None:
    with pytest.raises(dbapi.Error, match="authentication failed") as error:
        connect(user=user, password=password or scripted.password)
    assert error.value.errorcode == 10


def test_a_client_without_a_login_gets_nothing(scripted: Scripted) -> None:
    with socket.create_connection(("127.0.0.1", scripted.port)) as client:
        client.sendall(b"\xff\xff\xff\xff" + bytes((4, 0, 20, 4, 0, 1, 0, 1, 1, 1)))
        assert len(client.recv(8)) == 8
        sql = b"state()"
        part = struct.pack("<bbhiii", 3, 0, 1, 0, len(sql), 0) + sql + b"\0"
        size = 24 + len(part)
        client.sendall(
            struct.pack("<qIIIhBxI4x", 1, 0, size, size, 1, 0, 0)
            + struct.pack("<iihhbbbb8x", size, 0, 1, 1, 1, 2, 1, 0)
            + part
        )
        assert client.recv(100) == b""


def test_client_info_becomes_session_variables(connect: Connect) -> None:
    connection = connect(**{"sessionVariable:TENANT": "blue"})
    variables = state_of(connection)["variables"]
    assert variables["TENANT"] == "blue"
    assert variables["APPLICATION"]
    connection.setclientinfo("REQUEST", "r" * 300)
    assert state_of(connection)["variables"]["REQUEST"] == "r" * 300


# Statements


def test_a_query_without_rows_has_a_description(connect: Connect) -> None:
    with connect().cursor() as cursor:
        cursor.execute("query([INTEGER, NVARCHAR], [])")
        assert [column[0] for column in cursor.description] == ["C0", "C1"]
        assert cursor.fetchall() == []


def test_a_statement_runs_again_with_other_parameters(connect: Connect) -> None:
    connection = connect()
    for number in range(5):
        assert run(connection, "echo(INTEGER)", (number,)) == [(number,)]


def test_ping_works(connect: Connect) -> None:
    connection = connect()
    connection.ping()
    assert connection.isconnected()


@pytest.mark.parametrize(
    ("sql", "kind", "code"),
    [
        ("syntax error here", dbapi.ProgrammingError, 257),
        ("'no script'", dbapi.ProgrammingError, 259),
        ("insert(INTEGER, fail_on=1)", dbapi.IntegrityError, 301),
        ("crash()", dbapi.InternalError, 129),
    ],
)
def test_errors_have_the_class_of_their_code(connect: Connect, sql: str, kind: type[Exception], code: int) -> None:
    connection = connect()
    with connection.cursor() as cursor:
        with pytest.raises(kind) as error:
            cursor.execute(sql, (1,) if "insert" in sql else None)
        assert error.value.errorcode == code  # type: ignore[attr-defined]
    assert run(connection, "query([INTEGER], [(1,)])") == [(1,)]


def test_a_bug_in_the_engine_rolls_back_and_kills_nothing(connect: Connect, scripted: Scripted) -> None:
    connection, other = connect(autocommit=False), connect()
    run(connection, "insert(INTEGER)", (1,))
    with pytest.raises(dbapi.InternalError, match="ZeroDivisionError"):
        run(connection, "crash()")
    assert state_of(connection)["applied"] == 0
    connection.commit()
    assert run(other, "query([INTEGER], [(1,)])") == [(1,)]
    assert scripted.state()["committed"] == 0


# Transactions


def test_autocommit_commits_each_statement(connect: Connect, scripted: Scripted) -> None:
    run(connect(), "insert(INTEGER)", (1,))
    assert scripted.state()["committed"] == 1


def test_without_autocommit_only_commit_commits(connect: Connect, scripted: Scripted) -> None:
    connection = connect(autocommit=False)
    run(connection, "insert(INTEGER)", (1,))
    assert scripted.state()["committed"] == 0
    connection.rollback()
    run(connection, "insert(INTEGER)", (2,))
    connection.commit()
    assert scripted.state()["last_rows"] == [[2]]


def test_leaving_without_commit_rolls_back(connect: Connect, scripted: Scripted) -> None:
    connection = connect(autocommit=False)
    run(connection, "insert(INTEGER)", (1,))
    connection.close()
    assert scripted.state()["committed"] == 0


def test_a_failing_autocommit_statement_does_not_undo_earlier_changes(
    connect: Connect, scripted: Scripted
) -> None:
    connection = connect(autocommit=False)
    run(connection, "insert(INTEGER)", (1,))
    connection.setautocommit(True)
    with pytest.raises(dbapi.IntegrityError):
        run(connection, "insert(INTEGER, fail_on=2)", (2,))
    run(connection, "insert(INTEGER)", (3,))
    assert scripted.state()["committed"] == 2


# Batches


def rows(count: int, last: int = 0) -> list[tuple[int, str]]:
    return [(number, "x" * 1500) for number in range(1, count)] + [(last or count, "x" * 1500)]


def test_a_batch_in_several_pieces_is_committed_once(connect: Connect, scripted: Scripted) -> None:
    with connect().cursor() as cursor:
        cursor.executemany("insert(INTEGER, NVARCHAR)", rows(PIECES))
        assert cursor.rowcount == PIECES
    state = scripted.state()
    assert state["committed"] == PIECES
    assert state["calls"].count("execute") - 1 > 2, "the batch should have come in pieces"
    assert state["calls"].count("commit") == 2


def test_a_batch_that_fails_in_its_last_piece_leaves_nothing(connect: Connect, scripted: Scripted) -> None:
    connection = connect()
    with connection.cursor() as cursor, pytest.raises(dbapi.IntegrityError):
        cursor.executemany("insert(INTEGER, NVARCHAR, fail_on=-1)", rows(PIECES, last=-1))
    assert scripted.state()["committed"] == 0
    run(connection, "insert(INTEGER)", (1,))
    assert scripted.state()["committed"] == 1


def test_rows_before_one_that_hdbcli_cannot_send_are_a_batch_of_their_own(
    connect: Connect, scripted: Scripted
) -> None:
    # hdbcli ends the batch itself, with the rows that it could send, and raises then.
    batch: list[tuple[Any, str]] = [*rows(PIECES), ("no number", "x")]
    with connect().cursor() as cursor, pytest.raises(dbapi.Error, match="not a valid number"):
        cursor.executemany("insert(INTEGER, NVARCHAR)", batch)
    assert scripted.state()["committed"] == PIECES


def test_batcherrors_tell_which_rows_failed(connect: Connect, scripted: Scripted) -> None:
    with connect().cursor() as cursor, pytest.raises(dbapi.ExecuteManyError) as error:
        cursor.executemany("insert(INTEGER, fail_on=2)", [(1,), (2,), (3,)], batcherrors=True)
    assert [entry.errorcode for entry in error.value.errors] == [301]
    assert scripted.state()["committed"] == 0


def test_a_batch_without_autocommit_waits_for_commit(connect: Connect, scripted: Scripted) -> None:
    connection = connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.executemany("insert(INTEGER, NVARCHAR)", rows(PIECES))
    assert scripted.state()["committed"] == 0
    connection.commit()
    assert scripted.state()["committed"] == PIECES


# Result sets


def test_a_hundred_thousand_rows_come_in_pages(connect: Connect) -> None:
    with connect().cursor() as cursor:
        cursor.execute("count(100_000, 20)")
        numbers = [row[0] for row in cursor.fetchall()]
    assert numbers == list(range(100_000))


def test_rows_are_made_as_they_are_fetched(connect: Connect, scripted: Scripted) -> None:
    before = scripted.state()["peak_memory"]
    with connect().cursor() as cursor:
        cursor.execute("count(10_000_000, 1000)")
        assert len(cursor.fetchmany(10)) == 10
    assert scripted.state()["peak_memory"] - before < 60_000_000


def test_a_result_set_outlives_commit_and_rollback(connect: Connect) -> None:
    connection = connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("count(50_000, 100)")
        cursor.fetchmany(10)
        connection.commit()
        cursor.fetchmany(10)
        connection.rollback()
        assert len(cursor.fetchall()) == 50_000 - 20


def test_two_result_sets_are_read_in_turns(connect: Connect) -> None:
    connection = connect()
    with connection.cursor() as first, connection.cursor() as second:
        first.execute("count(20_000, 50)")
        second.execute("count(20_000, 50)")
        for _ in range(20_000):
            assert first.fetchone()[0] == second.fetchone()[0]


def test_an_error_while_rows_are_fetched_reaches_the_client(connect: Connect) -> None:
    connection = connect()
    with connection.cursor() as cursor, pytest.raises(dbapi.DataError, match="division by zero"):
        cursor.execute("fail_after(10)")
        cursor.fetchall()
    with connection.cursor() as cursor:
        cursor.execute("fail_after(3000)")
        with pytest.raises(dbapi.DataError, match="division by zero"):
            cursor.fetchall()
    assert run(connection, "query([INTEGER], [(1,)])") == [(1,)]


def test_closing_a_cursor_early_frees_its_result_set(connect: Connect) -> None:
    connection = connect()
    for _ in range(50):
        with connection.cursor() as cursor:
            cursor.execute("count(100_000, 100)")
            cursor.fetchone()
    assert run(connection, "query([INTEGER], [(1,)])") == [(1,)]


def test_wide_rows_come_one_by_one_if_they_must(connect: Connect) -> None:
    with connect().cursor() as cursor:
        cursor.execute("query([NVARCHAR], [('x' * 9_000_000,)] * 5)")
        assert [len(row[0]) for row in cursor.fetchall()] == [9_000_000] * 5

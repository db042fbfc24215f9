"""Statements, transactions, batches, result sets and errors as the real hdbcli sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana.protocol.wire import MessageType, Part, PartKind
from tests.integration.local.hana.conftest import USER, Scripted, run_scripted, state_of
from tests.integration.local.hana.rawclient import Disconnected, RawClient

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
    with RawClient(scripted.port) as client, pytest.raises(Disconnected):
        client.execute_direct("state()")


def test_a_client_between_question_and_proof_gets_nothing(scripted: Scripted) -> None:
    with RawClient(scripted.port) as client:
        client.offer(USER)
        with pytest.raises(Disconnected):
            client.execute_direct("state()")


def test_a_wrong_password_ends_the_connection(scripted: Scripted) -> None:
    with RawClient(scripted.port) as client:
        assert client.log_in(USER, "wrong").error == 10
        with pytest.raises(Disconnected):
            client.log_in(USER, scripted.password)


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


@pytest.mark.skipif(not hasattr(dbapi.Connection, "ping"), reason="this release of hdbcli has no ping")
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


@pytest.mark.parametrize(
    "options",
    [
        {"compress": True},
        {"packetSize": 5_000_000},
        {"reconnect": True},
        {"databaseName": "X"},
    ],
)
def test_connect_properties_change_nothing(connect: Connect, scripted: Scripted, options: dict[str, Any]) -> None:
    connection = connect(**options)
    with connection.cursor() as cursor:
        cursor.executemany("insert(INTEGER, NVARCHAR)", rows(PIECES))
        assert cursor.rowcount == PIECES
    assert len(run(connection, "count(20_000, 100)")) == 20_000
    assert scripted.state()["committed"] == PIECES


def test_a_statement_of_three_megabytes(connect: Connect) -> None:
    text = "é" * 1_500_000
    assert run(connect(), f"query([NCLOB], [('{text}',)])") == [(text,)]


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


# What hdbcli does not do


@pytest.fixture
def raw(scripted: Scripted, connect: Connect) -> Iterator[RawClient]:
    with RawClient(scripted.port) as client:
        assert client.log_in(USER, scripted.password).error is None
        yield client


def integers(*values: int) -> bytes:
    return b"".join(b"\3" + value.to_bytes(4, "little") for value in values)


def piece(statement: bytes, attributes: int, *values: int) -> tuple[Part, Part]:
    return (
        Part(PartKind.STATEMENT_ID, 1, statement),
        Part(PartKind.PARAMETERS, len(values), integers(*values), attributes),
    )


@pytest.mark.parametrize("what", ["another statement", "commit", "leaving", "a batch of another statement"])
def test_a_batch_that_the_client_abandons_leaves_nothing(raw: RawClient, scripted: Scripted, what: str) -> None:
    statement = raw.prepare("insert(INTEGER)").data(PartKind.STATEMENT_ID)
    other = raw.prepare("insert(INTEGER)").data(PartKind.STATEMENT_ID)
    assert raw.ask(MessageType.EXECUTE, *piece(statement, 4, 1, 2)).error is None
    assert raw.ask(MessageType.EXECUTE, *piece(statement, 2, 3)).error is None
    if what == "another statement":
        raw.execute_direct("query([INTEGER], [(1,)])")
    elif what == "commit":
        raw.ask(MessageType.COMMIT)
    elif what == "leaving":
        raw.socket.close()
    else:
        raw.ask(MessageType.EXECUTE, *piece(other, 1, 9))
    assert scripted.state()["last_rows"] == ([[9]] if what == "a batch of another statement" else [])


def test_unknown_ids_are_errors_that_end_nothing(raw: RawClient) -> None:
    nowhere = bytes(range(8))
    assert raw.ask(MessageType.EXECUTE, *piece(nowhere, 0, 1)).error == 2
    fetch = (Part(PartKind.RESULT_SET_ID, 1, nowhere), Part(PartKind.FETCH_SIZE, 1, bytes(4)))
    assert raw.ask(MessageType.FETCH_NEXT, *fetch).error == 2
    assert raw.ask(MessageType.READ_LOB, Part(PartKind.READ_LOB_REQUEST, 1, nowhere + bytes(16))).error == 2
    assert raw.ask(MessageType.WRITE_LOB, Part(PartKind.WRITE_LOB_REQUEST, 0, b"")).error == 2
    assert raw.ask(MessageType.CLOSE_RESULT_SET, Part(PartKind.RESULT_SET_ID, 1, nowhere)).error is None
    assert raw.ask(MessageType.DROP_STATEMENT_ID, Part(PartKind.STATEMENT_ID, 1, nowhere)).error is None
    assert raw.ask(MessageType.DB_CONNECT_INFO).error is None
    assert raw.execute_direct("query([INTEGER], [(1,)])").error is None


@pytest.mark.parametrize("values", [(), (1, 2)])
def test_a_query_takes_one_row_of_parameters(raw: RawClient, values: tuple[int, ...]) -> None:
    statement = raw.prepare("echo(INTEGER)").data(PartKind.STATEMENT_ID)
    assert raw.ask(MessageType.EXECUTE, *piece(statement, 0, *values)).error == 2
    assert raw.ask(MessageType.EXECUTE, *piece(statement, 0, 1)).error is None


def test_lob_pieces_for_another_lob_are_an_error(raw: RawClient, scripted: Scripted) -> None:
    statement = raw.prepare("insert(BLOB)").data(PartKind.STATEMENT_ID)
    parameters = Part(PartKind.PARAMETERS, 1, bytes((27, 2)) + (3).to_bytes(4, "little") + b"\x0a\0\0\0abc")
    answer = raw.ask(MessageType.EXECUTE, Part(PartKind.STATEMENT_ID, 1, statement), parameters)
    locator = answer.data(PartKind.WRITE_LOB_REPLY)
    assert scripted.state()["committed"] == 0
    wrong = Part(PartKind.WRITE_LOB_REQUEST, 1, bytes(8) + b"\6" + b"\xff" * 8 + bytes(4))
    assert raw.ask(MessageType.WRITE_LOB, wrong).error == 2
    right = Part(PartKind.WRITE_LOB_REQUEST, 1, locator + b"\6" + b"\xff" * 8 + (2).to_bytes(4, "little") + b"de")
    answer = raw.ask(MessageType.WRITE_LOB, right)
    assert answer.data(PartKind.WRITE_LOB_REPLY) == b""
    assert scripted.state()["last_rows"] == [["b'abcde'"]]


def test_sql_that_is_no_text_is_a_syntax_error(raw: RawClient) -> None:
    assert raw.ask(MessageType.EXECUTE_DIRECT, Part(PartKind.COMMAND, 1, b"\xff\xfe")).error == 257


@pytest.mark.parametrize("message_type", [0, 1, 4, 65, 66, 78, 127, -1])
def test_messages_of_another_kind_end_the_connection_alone(
    raw: RawClient, scripted: Scripted, message_type: int
) -> None:
    with pytest.raises(Disconnected):
        raw.ask(message_type)
    assert scripted.state()["committed"] == 0


def test_disconnect_is_answered_and_ends(raw: RawClient) -> None:
    assert raw.ask(MessageType.DISCONNECT).function_code == 18
    with pytest.raises(Disconnected):
        raw.ask(MessageType.COMMIT)

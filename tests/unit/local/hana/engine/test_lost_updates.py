"""A transaction that is put back after a failed statement never overwrites what others have committed since."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from hana_ai.api.local.hana.interface import EngineSession, HanaError


@pytest.fixture
def engine() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(lock_timeout=0.2)
    engine.ensure_user("DBADMIN", derive("x"), admin=True)
    yield engine
    engine.close()


def run(session: EngineSession, sql: str) -> list[tuple[object, ...]]:
    result = session.execute(session.prepare(sql))
    return [tuple(row) for row in result.rows or ()]


def between(session: EngineSession, action: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen after the session's transaction has let go of its rows and before it has them back."""
    transaction = session.transaction  # type: ignore[attr-defined]
    begin = transaction.begin

    def begin_late() -> None:
        monkeypatch.setattr(transaction, "begin", begin)
        action()
        begin()

    rollback = transaction._rollback

    def rollback_once() -> None:
        rollback()
        monkeypatch.setattr(transaction, "begin", begin_late)
        monkeypatch.setattr(transaction, "_rollback", rollback)

    monkeypatch.setattr(transaction, "_rollback", rollback_once)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("UPDATE T SET N = N - 1 WHERE ID = 1", "UPDATE T SET N = N - 10 WHERE ID = 1"),
        ("UPDATE T SET N = N - 1 WHERE ID = 1", "DELETE FROM T WHERE ID = 1"),
        ("DELETE FROM T WHERE ID = 1", "UPDATE T SET N = N - 10 WHERE ID = 1"),
        ("UPDATE T SET ID = 4 WHERE ID = 1", "UPDATE T SET N = N - 10 WHERE ID = 1"),
    ],
)
def test_rows_that_others_changed_meanwhile_roll_the_transaction_back(
    engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch, mine: str, theirs: str
) -> None:
    first, second = engine.session("DBADMIN", 1), engine.session("DBADMIN", 2)
    for sql in ("CREATE TABLE T (ID INTEGER PRIMARY KEY, N INTEGER)", "INSERT INTO T VALUES (1, 100)"):
        run(first, sql)
        first.commit()
    run(first, mine)

    def interfere() -> None:
        run(second, theirs)
        second.commit()

    between(first, interfere, monkeypatch)
    with pytest.raises(HanaError) as error:
        run(first, "INSERT INTO T VALUES (5, 'no number')")
    expected = run(second, "SELECT ID, N FROM T ORDER BY ID")
    assert error.value.code == 138
    assert not first.in_transaction
    first.commit()
    assert run(second, "SELECT ID, N FROM T ORDER BY ID") == expected
    first.close()
    second.close()


def test_rows_that_nobody_changed_are_put_back(engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = engine.session("DBADMIN", 1), engine.session("DBADMIN", 2)
    run(first, "CREATE TABLE T (ID INTEGER PRIMARY KEY, N INTEGER)")
    run(first, "INSERT INTO T VALUES (1, 100)")
    run(first, "INSERT INTO T VALUES (2, 200)")
    first.commit()
    run(first, "UPDATE T SET N = N - 1 WHERE ID = 1")
    run(first, "UPDATE T SET N = N - 1 WHERE ID = 1")
    run(first, "INSERT INTO T VALUES (3, 300)")
    run(first, "UPDATE T SET N = N - 1 WHERE ID = 3")

    def interfere() -> None:
        run(second, "UPDATE T SET N = 0 WHERE ID = 2")
        second.commit()

    between(first, interfere, monkeypatch)
    with pytest.raises(HanaError):
        run(first, "INSERT INTO T VALUES (5, 'no number')")
    first.commit()
    assert run(second, "SELECT ID, N FROM T ORDER BY ID") == [(1, 98), (2, 0), (3, 299)]
    first.close()
    second.close()

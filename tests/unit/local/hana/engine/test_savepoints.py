"""Savepoints and isolation levels: what a transaction keeps, and what it sees."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import pytest

from tests.unit.local.hana.engine_support import Sql, engine, other, sql

__all__ = ["engine", "other", "sql"]


@pytest.fixture
def table(sql: Sql) -> Sql:
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY, N INTEGER)")
    return sql


def ids(session: Sql) -> list[int]:
    return [row[0] for row in session.rows("SELECT ID FROM T ORDER BY ID")]


def test_a_return_undoes_what_came_after_the_savepoint(table: Sql) -> None:
    table.run("INSERT INTO T VALUES (1, 1)")
    table.run("SAVEPOINT A")
    table.run("INSERT INTO T VALUES (2, 2)")
    table.run("UPDATE T SET N = 9 WHERE ID = 1")
    table.run("ROLLBACK TO SAVEPOINT A")
    assert table.rows("SELECT * FROM T") == [(1, 1)]
    # It stays, so one can return again.
    table.run("DELETE FROM T")
    table.run("ROLLBACK WORK TO SAVEPOINT A")
    table.session.commit()
    assert table.rows("SELECT * FROM T") == [(1, 1)]


def test_savepoints_nest(table: Sql) -> None:
    for number, name in enumerate(("A", "B", "C"), 1):
        table.run(f"SAVEPOINT {name}")
        table.run(f"INSERT INTO T VALUES ({number}, 0)")
    table.run("ROLLBACK TO SAVEPOINT B")
    assert ids(table) == [1]
    assert table.code("ROLLBACK TO SAVEPOINT C") == 128
    table.run("RELEASE SAVEPOINT A")
    assert table.code("ROLLBACK TO SAVEPOINT B") == 128
    assert ids(table) == [1]


def test_a_name_used_again_moves(table: Sql) -> None:
    table.run("SAVEPOINT A")
    table.run("INSERT INTO T VALUES (1, 0)")
    table.run('SAVEPOINT "A"')
    table.run("INSERT INTO T VALUES (2, 0)")
    table.run("ROLLBACK TO SAVEPOINT a")
    assert ids(table) == [1]


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK", "CREATE TABLE U (ID INTEGER)"])
def test_the_end_of_a_transaction_is_that_of_its_savepoints(table: Sql, ending: str) -> None:
    table.run("SAVEPOINT A")
    table.run(ending)
    assert table.code("ROLLBACK TO SAVEPOINT A") == 128


def test_a_failed_statement_leaves_the_savepoints(table: Sql) -> None:
    table.run("SAVEPOINT A")
    assert table.code("SELECT 1 / 0 FROM DUMMY") == 304
    table.run("INSERT INTO T VALUES (1, 0)")
    assert table.code("INSERT INTO T VALUES (1, 0)") == 301
    table.run("SAVEPOINT B")
    assert table.code("INSERT INTO T VALUES (1, 0)") == 301
    table.run("INSERT INTO T VALUES (2, 0)")
    table.run("ROLLBACK TO SAVEPOINT B")
    assert ids(table) == [1]
    table.run("ROLLBACK TO SAVEPOINT A")
    assert ids(table) == []


def test_temporary_tables_return_too(table: Sql) -> None:
    table.run("CREATE LOCAL TEMPORARY TABLE #L (ID INTEGER)")
    table.done("CREATE GLOBAL TEMPORARY TABLE G (ID INTEGER) ON COMMIT PRESERVE ROWS")
    table.run("SAVEPOINT A")
    for name in ("#L", "G"):
        table.run(f"INSERT INTO {name} VALUES (1)")
    table.run("ROLLBACK TO SAVEPOINT A")
    for name in ("#L", "G"):
        assert table.rows(f"SELECT * FROM {name}") == []
        table.run(f"INSERT INTO {name} VALUES (2)")
    table.session.commit()
    assert table.rows("SELECT * FROM G") == [(2,)]


def test_truncate_and_large_changes_return(table: Sql) -> None:
    table.done("INSERT INTO T SELECT GENERATED_PERIOD_START, 0 FROM SERIES_GENERATE_INTEGER(1, 0, 500)")
    before = table.value("SELECT SUM(ID * (N + 1)) FROM T")
    table.run("SAVEPOINT A")
    table.run("UPDATE T SET N = N + 1")
    table.run("DELETE FROM T WHERE MOD(ID, 2) = 0")
    table.run("ROLLBACK TO SAVEPOINT A")
    assert table.value("SELECT SUM(ID * (N + 1)) FROM T") == before


def test_rows_that_another_changed_meanwhile_are_never_written_over(table: Sql, other: Sql) -> None:
    table.done("INSERT INTO T VALUES (1, 1)")
    table.run("UPDATE T SET N = 2 WHERE ID = 1")
    table.run("SAVEPOINT A")
    table.run("INSERT INTO T VALUES (2, 2)")
    table.run("ROLLBACK TO SAVEPOINT A")
    table.session.commit()
    assert other.rows("SELECT * FROM T") == [(1, 2)]


# --- histories against a model ---


class Model:
    """What a table and its savepoints should be."""

    def __init__(self) -> None:
        self.committed: dict[int, int] = {}
        self.rows: dict[int, int] = {}
        self.savepoints: list[tuple[str, dict[int, int]]] = []

    def find(self, name: str) -> int | None:
        names = [known for known, _ in self.savepoints]
        return names.index(name) if name in names else None


def history(session: Sql, model: Model, chance: random.Random) -> None:
    """A transaction of some statements; rows and errors are compared after each."""

    def step(statement: str, code: int | None = None) -> None:
        if code is None:
            session.run(statement)
        else:
            assert session.code(statement) == code, statement
        assert dict(session.rows("SELECT ID, N FROM T")) == model.rows, statement

    def insert() -> None:
        key, number = chance.randrange(6), chance.randrange(100)
        taken = key in model.rows
        if not taken:
            model.rows[key] = number
        step(f"INSERT INTO T VALUES ({key}, {number})", 301 if taken else None)

    def update() -> None:
        key, number = chance.randrange(6), chance.randrange(100)
        model.rows = {known: number if known >= key else value for known, value in model.rows.items()}
        step(f"UPDATE T SET N = {number} WHERE ID >= {key}")

    def upsert() -> None:
        key, number = chance.randrange(6), chance.randrange(100)
        model.rows[key] = number
        step(f"UPSERT T VALUES ({key}, {number}) WITH PRIMARY KEY")

    def delete() -> None:
        key = chance.randrange(6)
        model.rows = {known: value for known, value in model.rows.items() if known != key}
        step(f"DELETE FROM T WHERE ID = {key}")

    def fail() -> None:
        step("SELECT 1 / 0 FROM DUMMY", 304)

    def set_savepoint() -> None:
        name = chance.choice("ABC")
        model.savepoints = [item for item in model.savepoints if item[0] != name]
        model.savepoints.append((name, copy.copy(model.rows)))
        step(f"SAVEPOINT {name}")

    def go_back() -> None:
        name = chance.choice("ABC")
        place = model.find(name)
        if place is not None:
            model.rows = copy.copy(model.savepoints[place][1])
            del model.savepoints[place + 1 :]
        step(f"ROLLBACK TO SAVEPOINT {name}", 128 if place is None else None)

    def release() -> None:
        name = chance.choice("ABC")
        place = model.find(name)
        if place is not None:
            del model.savepoints[place:]
        step(f"RELEASE SAVEPOINT {name}", 128 if place is None else None)

    steps: list[Callable[[], None]] = [insert, insert, update, upsert, delete, fail, set_savepoint, set_savepoint]
    steps += [go_back, go_back, release]
    for _ in range(chance.randrange(1, 12)):
        chance.choice(steps)()
    if chance.random() < 0.5:
        model.committed = copy.copy(model.rows)
        session.session.commit()
    else:
        model.rows = copy.copy(model.committed)
        session.session.rollback()
    model.savepoints = []
    assert dict(session.rows("SELECT ID, N FROM T")) == model.committed


def histories(session: Sql, count: int) -> None:
    model = Model()
    for seed in range(count):
        history(session, model, random.Random(seed))


def test_histories_with_savepoints_are_those_of_a_model(table: Sql) -> None:
    histories(table, 150)


@pytest.mark.slow
def test_many_histories_with_savepoints_are_those_of_a_model(table: Sql) -> None:
    histories(table, 5_000)


# --- isolation levels ---


@pytest.mark.parametrize("level", ["READ COMMITTED", "READ UNCOMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_the_level_is_read_back(sql: Sql, level: str) -> None:
    assert sql.value("SELECT CURRENT_TRANSACTION_ISOLATION_LEVEL FROM DUMMY") == "READ COMMITTED"
    sql.run(f"SET TRANSACTION ISOLATION LEVEL {level}")
    assert sql.value("SELECT CURRENT_TRANSACTION_ISOLATION_LEVEL FROM DUMMY") == level


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("READ UNCOMMITTED", [[1], [1, 2]]),
        ("READ COMMITTED", [[1], [1, 2]]),
        ("REPEATABLE READ", [[1], [1]]),
        ("SERIALIZABLE", [[1], [1]]),
    ],
)
def test_what_a_transaction_sees_of_others(table: Sql, other: Sql, level: str, seen: list[list[int]]) -> None:
    table.done("INSERT INTO T VALUES (1, 0)")
    other.run(f"SET TRANSACTION ISOLATION LEVEL {level}")
    table.run("INSERT INTO T VALUES (2, 0)")
    found = [ids(other)]
    table.session.commit()
    found.append(ids(other))
    assert found == seen
    other.session.commit()
    assert ids(other) == [1, 2]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_is_never_changed_over_newer_rows(table: Sql, other: Sql, level: str) -> None:
    table.done("INSERT INTO T VALUES (1, 0)")
    other.run(f"SET TRANSACTION ISOLATION LEVEL {level}")
    assert ids(other) == [1]
    table.done("UPDATE T SET N = 1")
    assert other.code("UPDATE T SET N = 2") == 138
    assert not other.session.in_transaction
    assert other.rows("SELECT N FROM T") == [(1,)]

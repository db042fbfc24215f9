"""What the product believes of HANA, run by hdbcli in a schema that is the suite's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hdbcli import dbapi

from .hana_cases import AGGREGATES, ANY, ERRORS, FUNCTIONS, OK, STATEMENTS, TYPES, VIEWS, Case
from .hana_world import HanaWorld, Outcome

Saw = Callable[[str, Any], None]
_NOT_SUPPORTED = 7


def _is(outcome: Outcome, expected: object) -> bool:
    if expected == OK:
        return outcome.code is None and outcome.rows is None
    if isinstance(expected, int):
        return outcome.code == expected
    return outcome.code is None and (expected == ANY or outcome.rows == expected)


@pytest.mark.parametrize("case", STATEMENTS, ids=lambda case: case.name)
def test_a_statement(hana_world: HanaWorld, saw: Saw, case: Case) -> None:
    for sql in case.statements:
        outcome = hana_world.run(sql)
        if outcome.code is not None:
            break
    saw(f"statement, {case.name}", outcome.seen())
    if case.may_be_refused and not hana_world.is_real and outcome.code == _NOT_SUPPORTED:
        pytest.skip(f"The loopback server says so: {outcome.message}")
    assert sql == case.statements[-1], f"{sql}: {outcome.message}"
    assert _is(outcome, case.expected), f"{sql}: {outcome}"


@pytest.mark.parametrize("sql", ERRORS)
def test_an_error(hana_session: HanaWorld, saw: Saw, sql: str) -> None:
    outcome = hana_session.run(sql)
    saw(f"error, {sql}", outcome.code)
    assert outcome.code == ERRORS[sql], outcome


@pytest.mark.parametrize("declared", TYPES)
def test_a_type_in_and_out(hana_world: HanaWorld, saw: Saw, declared: str) -> None:
    values = TYPES[declared]
    hana_world.rows(f"CREATE TABLE T (ID INTEGER, A {declared})")
    with hana_world.connection.cursor() as cursor:
        for number, value in enumerate([*values, None]):
            cursor.execute("INSERT INTO T VALUES (?, ?)", (number, value))
        cursor.execute("SELECT A FROM T ORDER BY ID")
        code = cursor.description[0][1]
        found = [bytes(value) if isinstance(value, memoryview) else value for (value,) in cursor.fetchall()]
    catalogued = hana_world.rows(
        "SELECT DATA_TYPE_NAME, LENGTH, SCALE FROM SYS.TABLE_COLUMNS "
        "WHERE SCHEMA_NAME = ? AND TABLE_NAME = 'T' AND COLUMN_NAME = 'A'",
        hana_world.schema,
    )
    saw(
        f"type, {declared}", {"code": code, "catalogue": list(catalogued[0]), "returned": found == [*values, None]}
    )
    assert found == [*values, None]
    assert [type(value) for value in found] == [type(value) for value in [*values, None]]


@pytest.mark.parametrize("expression", FUNCTIONS)
def test_a_function(hana_session: HanaWorld, saw: Saw, expression: str) -> None:
    expected = FUNCTIONS[expression]
    outcome = hana_session.run(f"SELECT {expression} FROM DUMMY")
    saw(f"function, {expression}", outcome.seen())
    assert outcome.code is None, outcome.message
    [(value,)] = outcome.rows or []
    assert value == (pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected)


@pytest.fixture
def three_rows(hana_world: HanaWorld) -> HanaWorld:
    hana_world.rows("CREATE COLUMN TABLE T (A NVARCHAR(5), N INTEGER)")
    for row in (("a", 1), ("b", 2), ("b", 3)):
        hana_world.rows("INSERT INTO T VALUES (?, ?)", *row)
    return hana_world


def test_aggregates(three_rows: HanaWorld, saw: Saw) -> None:
    wrong = {}
    for expression, expected in AGGREGATES.items():
        outcome = three_rows.run(f"SELECT {expression} FROM T")
        saw(f"aggregate, {expression}", outcome.seen())
        wanted = pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected
        if outcome.code is not None or outcome.rows is None or outcome.rows[0][0] != wanted:
            wrong[expression] = outcome
    assert wrong == {}


@pytest.mark.parametrize("view", VIEWS)
def test_a_system_view(hana_session: HanaWorld, saw: Saw, view: str) -> None:
    columns = VIEWS[view].split()
    outcome = hana_session.run(f"SELECT TOP 1 {', '.join(columns)} FROM SYS.{view}")
    saw(f"view, {view}", {"error": outcome.code, "types": list(outcome.types)})
    assert outcome.code is None, outcome.message


def test_a_transaction_is_rolled_back(hana_world: HanaWorld) -> None:
    hana_world.rows("CREATE TABLE T (A INTEGER)")
    connection = hana_world.connect(autocommit=False)
    try:
        name = f'"{hana_world.schema}".T'
        hana_world.run(f"INSERT INTO {name} VALUES (1)", connection=connection)
        assert hana_world.rows("SELECT COUNT(*) FROM T") == [(0,)]
        connection.rollback()
        hana_world.run(f"INSERT INTO {name} VALUES (2)", connection=connection)
        connection.commit()
        assert hana_world.rows("SELECT A FROM T") == [(2,)]
    finally:
        connection.close()


def test_savepoints(hana_world: HanaWorld, saw: Saw) -> None:
    hana_world.rows("CREATE TABLE T (A INTEGER PRIMARY KEY)")
    connection = hana_world.connect(autocommit=False)
    name = f'"{hana_world.schema}".T'
    try:
        steps = [
            f"INSERT INTO {name} VALUES (1)",
            "SAVEPOINT ONE",
            f"INSERT INTO {name} VALUES (2)",
            "ROLLBACK TO SAVEPOINT ONE",
            f"INSERT INTO {name} VALUES (1)",
            f"INSERT INTO {name} VALUES (3)",
            "RELEASE SAVEPOINT ONE",
            "ROLLBACK TO SAVEPOINT ONE",
        ]
        codes = [hana_world.run(step, connection=connection).code for step in steps]
        saw("savepoints, errors", codes)
        assert codes[:7] == [None, None, None, None, 301, None, None]
        assert codes[7] is not None
        connection.commit()
        assert hana_world.rows("SELECT A FROM T ORDER BY A") == [(1,), (3,)]
    finally:
        connection.rollback()
        connection.close()


def test_a_batch_counts_its_rows_and_is_undone_as_a_whole(hana_world: HanaWorld) -> None:
    hana_world.rows("CREATE TABLE T (A INTEGER PRIMARY KEY, B NVARCHAR(3))")
    with hana_world.connection.cursor() as cursor:
        cursor.executemany("INSERT INTO T VALUES (?, ?)", [(number, "x") for number in range(200)])
        assert cursor.rowcount == 200
        with pytest.raises(dbapi.IntegrityError):
            cursor.executemany("INSERT INTO T VALUES (?, ?)", [(1000, "a"), (1000, "b")])
    assert hana_world.rows("SELECT COUNT(*) FROM T") == [(200,)]


def test_named_parameters_and_descriptions(hana_world: HanaWorld, saw: Saw) -> None:
    hana_world.rows('CREATE TABLE T (ID INTEGER, "text" NVARCHAR(7), D DECIMAL(9, 2))')
    with hana_world.connection.cursor() as cursor:
        cursor.execute("INSERT INTO T VALUES (:id, :text, :id)", {"id": 4, "text": "x"})
        cursor.execute("SELECT * FROM T WHERE ID = :id", {"id": 4})
        described = [list(column) for column in cursor.description]
        saw("description of a result", described)
        assert [column[0] for column in described] == ["ID", "text", "D"]
        assert len(cursor.fetchall()) == 1


def test_a_wrong_password_is_refused(hana_session: HanaWorld, saw: Saw) -> None:
    with pytest.raises(dbapi.Error) as caught:
        hana_session.connect(user="CONFORMANCE_NOBODY", password="Wrong1xx")
    saw("wrong password, error", caught.value.errorcode)
    assert caught.value.errorcode == 10

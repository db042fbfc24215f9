"""Every text comes back as it went in, whatever it holds: nothing of a value is taken for SQL or for a sign."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from hana_ai.api.local.hana.interface import HanaError

from .engine_support import Sql

# What generated SQL, its parameters, its templates and DuckDB's messages are made of.
SIGNS = (
    "\x00", "\x01", "\x1f", "\x7f", "\x85", "\u2028", "'", "''", '"', "\\", "$p0", "$p1", "$h0", "$rid", "$rids",
    "?", "{}", "{0}", "}", "%s", "%", "_", "--", "/*", "*/", ";", ",", ")", "r1.", "c1", "HANA:2:", "HANA:x:",
    "OVER ()", "\n", "\r", "\t", " ", "😀", "é", "\ufeff",
)  # fmt: skip
TEXTS = st.lists(st.text(max_size=4) | st.sampled_from(SIGNS), max_size=6).map("".join)
# Drawn examples are a sample, in which a sign may be missing.
ALL, ALL_BACKWARDS = "".join(SIGNS), "".join(reversed(SIGNS))

# Each example is several statements; where slow tests run, too, there are as many examples as elsewhere.
FEW = settings(max_examples=15 if settings().max_examples < 100 else settings().max_examples)


@pytest.fixture(scope="module")
def db() -> Iterator[Sql]:
    engine = DuckDBEngine()
    engine.ensure_user("DBADMIN", derive("Secret1"), admin=True)
    session = engine.session("DBADMIN", 1)
    found = Sql(session)
    found.run("CREATE TABLE T (ID INTEGER PRIMARY KEY, TEXT NVARCHAR(500), NUMBER INTEGER DEFAULT 7)")
    yield found
    session.close()
    engine.close()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def stored(db: Sql, *texts: str) -> None:
    db.run("DELETE FROM T")
    db.run("INSERT INTO T (ID, TEXT) VALUES (?, ?)", *enumerate(texts))


@FEW
@given(text=TEXTS, other=TEXTS)
@example(text=ALL, other=ALL_BACKWARDS)
def test_literals_and_parameters(db: Sql, text: str, other: str) -> None:
    assert db.value(f"SELECT {quoted(text)} FROM DUMMY") == text
    assert db.value(f"SELECT N{quoted(text)} FROM DUMMY") == text
    assert db.value("SELECT CAST(? AS NVARCHAR(500)) FROM DUMMY", text) == text
    row = f"SELECT {quoted(text)}, CAST(? AS NVARCHAR(500)), {quoted(other)}, CAST(? AS NVARCHAR(500)) FROM DUMMY"
    assert db.rows(row, other, text) == [(text, other, other, text)]


@FEW
@given(text=TEXTS, other=TEXTS)
@example(text=ALL, other=ALL_BACKWARDS)
def test_concatenation_and_functions(db: Sql, text: str, other: str) -> None:
    assert db.value(f"SELECT {quoted(text)} || ? || {quoted(other)} FROM DUMMY", other) == text + other + other
    assert db.value(f"SELECT CONCAT({quoted(text)}, {quoted(other)}) FROM DUMMY") == text + other
    assert db.value(f"SELECT REPLACE('-' || {quoted(text)}, '-', '') FROM DUMMY") == text.replace("-", "")
    assert db.value(f"SELECT COALESCE(NULL, {quoted(text)}) FROM DUMMY") == text
    case = f"SELECT CASE {quoted(text)} WHEN ? THEN {quoted(other)} ELSE 'no' END FROM DUMMY"
    assert db.value(case, text) == other
    assert db.value(f"SELECT MAP({quoted(text)}, ?, {quoted(other)}, 'no') FROM DUMMY", text) == other


@FEW
@given(text=TEXTS, other=TEXTS, between=TEXTS)
@example(text=ALL, other=ALL_BACKWARDS, between=ALL)
def test_aggregates_and_windows(db: Sql, text: str, other: str, between: str) -> None:
    stored(db, text, other)
    joined = text + between + other
    assert db.value(f"SELECT STRING_AGG(TEXT, {quoted(between)} ORDER BY ID) FROM T") == joined
    assert db.value(f"SELECT MAX({quoted(text)}) FROM T") == text
    assert db.value(f"SELECT FIRST_VALUE({quoted(text)} || TEXT ORDER BY ID DESC) FROM T") == text + other
    assert db.rows(f"SELECT MAX({quoted(text)}) OVER (PARTITION BY {quoted(other)}) FROM T") == [(text,)] * 2
    lagged = f"SELECT LAG(TEXT, 1, {quoted(between)}) OVER (ORDER BY ID) FROM T ORDER BY ID"
    assert db.rows(lagged) == [(between,), (text,)]
    counted = f"SELECT COUNT(*) FROM T WHERE TEXT = {quoted(text)} GROUP BY TEXT HAVING MIN(TEXT) = ?"
    assert db.value(counted, text) == 1 + (text == other)


@FEW
@given(text=TEXTS, other=TEXTS)
@example(text=ALL, other=ALL_BACKWARDS)
def test_patterns(db: Sql, text: str, other: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    like = (
        f"SELECT CASE WHEN {quoted(other + text)} LIKE {quoted('%' + escaped)} ESCAPE '\\' THEN 1 END FROM DUMMY"
    )
    assert db.value(like) == 1
    stored(db, text)
    assert db.value("SELECT COUNT(*) FROM T WHERE TEXT LIKE ? ESCAPE '\\'", escaped) == 1
    assert db.value(f"SELECT COUNT(*) FROM T WHERE TEXT IN ({quoted(other + '!')}, {quoted(text)})") == 1
    assert db.value("SELECT LOCATE(?, ?) FROM DUMMY", other + "!" + text, "!" + text) > 0


@FEW
@given(text=TEXTS, other=TEXTS)
@example(text=ALL, other=ALL_BACKWARDS)
def test_json(db: Sql, text: str, other: str) -> None:
    document = orjson.dumps({"a": text, "b": [text, other]}).decode()
    assert db.value(f"SELECT JSON_VALUE({quoted(document)}, '$.a') FROM DUMMY") == text
    assert db.value("SELECT JSON_VALUE(?, '$.b[0]') FROM DUMMY", document) == text
    found = db.value(f"SELECT JSON_QUERY({quoted(document)}, '$.b') FROM DUMMY")
    assert orjson.loads(found) == [text, other]
    fallback = f"SELECT JSON_VALUE('{{}}', '$.a' DEFAULT {quoted(other)} ON EMPTY) FROM DUMMY"
    assert db.value(fallback) == other
    table = f"SELECT V FROM JSON_TABLE({quoted(document)}, '$.b[*]' COLUMNS (V NVARCHAR(500) PATH '$'))"
    assert db.rows(table)[0] == (text,)


@FEW
@given(text=TEXTS, other=TEXTS)
@example(text=ALL, other=ALL_BACKWARDS)
def test_changes(db: Sql, text: str, other: str) -> None:
    db.run("DELETE FROM T")
    db.run(f"INSERT INTO T (ID, TEXT) VALUES (1, {quoted(text)})")
    db.run(f"UPDATE T SET TEXT = TEXT || {quoted(other)} WHERE TEXT = ?", (text,))
    assert db.value("SELECT TEXT FROM T") == text + other
    db.run(f"UPSERT T (ID, TEXT) VALUES (?, {quoted(other)} || ?) WITH PRIMARY KEY", (1, text), (2, other))
    assert db.rows("SELECT TEXT FROM T ORDER BY ID") == [(other + text,), (other + other,)]
    db.run(
        f"MERGE INTO T USING (SELECT 2 AS ID, {quoted(text)} AS X FROM DUMMY) S ON T.ID = S.ID "
        f"WHEN MATCHED AND S.X = {quoted(text)} THEN UPDATE SET TEXT = S.X || {quoted(other)}"
    )
    assert db.value("SELECT TEXT FROM T WHERE ID = 2") == text + other
    assert db.run(f"DELETE FROM T WHERE TEXT = {quoted(text + other)} AND ID = 2").rows_affected == [1]


@FEW
@given(text=TEXTS, alias=TEXTS.filter(bool))
@example(text=ALL, alias=ALL_BACKWARDS)
def test_names_of_columns(db: Sql, text: str, alias: str) -> None:
    name = '"' + alias.replace('"', '""') + '"'
    statement = (
        f"SELECT {name}, MAX({name}) OVER () FROM (SELECT {quoted(text)} AS {name} FROM DUMMY) ORDER BY {name}"
    )
    assert db.names(f"SELECT {quoted(text)} AS {name} FROM DUMMY") == [alias]
    assert db.rows(statement) == [(text, text)]


@FEW
@given(text=TEXTS)
@example(text=ALL)
def test_a_text_in_an_error_does_not_choose_its_code(db: Sql, text: str) -> None:
    for target, codes in (("INTEGER", {314, 339}), ("DATE", {303})):
        for statement, values in (
            (f"SELECT CAST({quoted('x' + text)} AS {target}) FROM DUMMY", ()),
            (f"SELECT CAST({quoted('HANA:304:' + text)} AS {target}) FROM DUMMY", ()),
            (f"SELECT CAST(TEXT || 'x' AS {target}) FROM T", ()),
        ):
            if "FROM T" in statement:
                stored(db, text)
            with pytest.raises(HanaError) as caught:
                db.rows(statement, *values)
            assert caught.value.code in codes, (statement, caught.value)
            db.session.rollback()

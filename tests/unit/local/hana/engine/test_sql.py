"""What HANA's SQL answers: values, names, types and error codes."""

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from hana_ai.api.local.hana.interface import HanaError
from tests.unit.local.hana.engine_support import Sql, engine, other, reader, scratch, shared, sql

__all__ = ["engine", "other", "reader", "scratch", "shared", "sql"]

D = Decimal


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("7 / 2", D("3.5")),
        ("1 / 3", D("0.333333")),
        ("1.5 + 1", D("2.5")),
        ("1.25 * 2.5", D("3.125")),
        ("10.0 / 4", D("2.5")),
        ("1e1 / 4", 2.5),
        ("-5", -5),
        ("2147483647", 2147483647),
        ("9999999999", 9999999999),
        ("MOD(7, 3)", 1),
        ("ABS(-2.5)", D("2.5")),
        ("CEIL(1.2)", D("2")),
        ("FLOOR(-1.2)", D("-2")),
        ("ROUND(2.567, 2)", D("2.57")),
        ("ROUND(1234, -2)", 1200),
        ("POWER(2, 10)", 1024.0),
        ("SQRT(16)", 4.0),
        ("SIGN(-3)", -1),
        ("GREATEST(1, 5, 3)", 5),
        ("LEAST('b', 'a')", "a"),
        ("GREATEST(1, NULL)", None),
        ("BITAND(12, 10)", 8),
        ("TO_INTEGER('12')", 12),
        ("TO_INTEGER('12.7')", 12),
        ("TO_INTEGER(2.7)", 2),
        ("CAST(2.7 AS INTEGER)", 2),
        ("TO_DECIMAL('1.5', 10, 2)", D("1.50")),
        ("TO_DOUBLE('1.5')", 1.5),
        ("TO_BOOLEAN('true')", True),
        ("TO_NVARCHAR(12)", "12"),
        ("TO_NVARCHAR(1.50)", "1.50"),
        ("TO_NVARCHAR(TO_DOUBLE('2'))", "2"),
        ("TO_VARCHAR(TO_DATE('2024-02-29'))", "2024-02-29"),
        ("TO_VARCHAR(TO_DATE('2024-02-29'), 'YYYYMMDD')", "20240229"),
        ("TO_VARCHAR(TO_TIMESTAMP('2024-02-29 13:05:06'), 'DD.MM.YYYY HH24:MI:SS')", "29.02.2024 13:05:06"),
        ("TO_DATE('29.02.2024', 'DD.MM.YYYY')", dt.date(2024, 2, 29)),
        ("TO_DATE('20240229')", dt.date(2024, 2, 29)),
        ("TO_TIMESTAMP('2024-02-29 01:02:03.5')", dt.datetime(2024, 2, 29, 1, 2, 3, 500000)),
        ("TO_SECONDDATE('2024-02-29 01:02:03.9')", dt.datetime(2024, 2, 29, 1, 2, 3)),
        ("TO_TIME('01:02:03')", dt.time(1, 2, 3)),
        ("DATE '2024-01-31'", dt.date(2024, 1, 31)),
        ("ADD_DAYS(DATE '2024-02-28', 2)", dt.date(2024, 3, 1)),
        ("ADD_MONTHS(DATE '2024-01-31', 1)", dt.date(2024, 2, 29)),
        ("ADD_YEARS(DATE '2024-02-29', 1)", dt.date(2025, 2, 28)),
        ("ADD_SECONDS(TIMESTAMP '2024-01-01 00:00:00', 61.5)", dt.datetime(2024, 1, 1, 0, 1, 1)),
        ("DAYS_BETWEEN(DATE '2024-01-01', DATE '2024-03-01')", 60),
        ("SECONDS_BETWEEN(TIMESTAMP '2024-01-01 00:00:00', TIMESTAMP '2024-01-01 01:00:00')", 3600),
        ("MONTHS_BETWEEN(DATE '2024-01-31', DATE '2024-03-30')", 1),
        ("YEARS_BETWEEN(DATE '2000-03-01', DATE '2024-02-29')", 23),
        ("YEAR(DATE '2024-02-29')", 2024),
        ("EXTRACT(MONTH FROM DATE '2024-02-29')", 2),
        ("DAYOFMONTH('2024-02-29')", 29),
        ("WEEKDAY(DATE '2024-02-26')", 0),
        ("QUARTER(DATE '2024-05-01')", "2024-Q2"),
        ("ISOWEEK(DATE '2024-01-01')", "2024-W01"),
        ("LAST_DAY(DATE '2024-02-01')", dt.date(2024, 2, 29)),
        ("DAYNAME(DATE '2024-02-26')", "MONDAY"),
        ("UPPER('aä')", "AÄ"),
        ("LENGTH('a😀')", 2),
        ("SUBSTR('hello', 2, 3)", "ell"),
        ("SUBSTRING('hello', 0, 2)", "he"),
        ("LEFT('hello', 2) || RIGHT('hello', 2)", "helo"),
        ("LOCATE('hello', 'l')", 3),
        ("LOCATE('hello', 'l', 4)", 4),
        ("LOCATE('hello', 'z')", 0),
        ("LPAD('7', 3, '0')", "007"),
        ("RPAD('7', 3, 'x')", "7xx"),
        ("TRIM('  a ')", "a"),
        ("TRIM(LEADING 'x' FROM 'xxax')", "ax"),
        ("LTRIM('aab', 'a')", "b"),
        ("REPLACE('a-b', '-', '+')", "a+b"),
        ("CONCAT('a', 'b')", "ab"),
        ("'a' || 1", "a1"),
        ("REPLACE_REGEXPR('[aeiou]' IN 'banana' WITH '*')", "b*n*n*"),
        ("REPLACE_REGEXPR('(a)(n)' IN 'banana' WITH '\\2\\1' OCCURRENCE 1)", "bnaana"),
        ("SUBSTRING_REGEXPR('[0-9]+' IN 'ab12cd345' OCCURRENCE 2)", "345"),
        ("SUBSTRING_REGEXPR('z' IN 'abc')", None),
        ("OCCURRENCES_REGEXPR('a' IN 'banana')", 3),
        ("LOCATE_REGEXPR(START 'na' IN 'banana' OCCURRENCE 2)", 5),
        ("CASE WHEN 'Abc' LIKE_REGEXPR '^a' FLAG 'i' THEN 1 ELSE 0 END", 1),
        ("CASE WHEN 'a_c' LIKE 'a$_c' ESCAPE '$' THEN 1 ELSE 0 END", 1),
        ("IFNULL(NULL, 3)", 3),
        ("COALESCE(NULL, NULL, 'x')", "x"),
        ("NULLIF(1, 1)", None),
        ("MAP(2, 1, 'one', 2, 'two', 'many')", "two"),
        ("MAP(NULL, NULL, 'null', 'other')", "null"),
        ("CASE 3 WHEN 1 THEN 'a' WHEN 3 THEN 'c' END", "c"),
        ("CASE WHEN 1 = 2 THEN 1 END", None),
        ("INITCAP('hello wORLD')", "Hello World"),
        (
            "HASH_SHA256(TO_BINARY('a'))",
            bytes.fromhex("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ),
        ("X'00FF'", b"\x00\xff"),
        ("BINTOHEX(X'00FF')", "00FF"),
        ('JSON_VALUE(\'{"a": {"b": "x"}}\', \'$.a.b\')', "x"),
        ("JSON_VALUE('{\"a\": [1, 2]}', '$.a[1]')", "2"),
        ("JSON_VALUE('{\"a\": {}}', '$.a')", None),
        ("JSON_VALUE('{\"a\": true}', '$.a')", "true"),
        ("JSON_VALUE('no json', '$.a')", None),
        ("JSON_VALUE('{}', '$.a' DEFAULT 'none' ON EMPTY)", "none"),
        ("JSON_VALUE('{\"a\": 5}', '$.a' RETURNING INTEGER)", 5),
        ("JSON_QUERY('{\"a\": [1, 2]}', '$.a')", "[1,2]"),
        ("JSON_QUERY('{\"a\": 1}', '$.a')", None),
        ("JSON_QUERY('{\"a\": 1}', '$.a' WITH WRAPPER)", "[1]"),
        ("CARDINALITY(TO_REAL_VECTOR('[1,2,3]'))", 3),
        ("MEMBER_AT(TO_REAL_VECTOR('[1,2.5,3]'), 2)", 2.5),
        ("L2DISTANCE(TO_REAL_VECTOR('[0,0]'), TO_REAL_VECTOR('[3,4]'))", 5.0),
        ("L2NORM(TO_REAL_VECTOR('[3,4]'))", 5.0),
        ("COSINE_SIMILARITY(TO_REAL_VECTOR('[1,0]'), TO_REAL_VECTOR('[0,1]'))", 0.0),
        ("TO_NVARCHAR(TO_REAL_VECTOR('[1, 0.5,-2]'))", "[1,0.5,-2]"),
        ("CURRENT_SCHEMA", "DBADMIN"),
        ("SESSION_USER", "DBADMIN"),
        ("CURRENT_CONNECTION", 1),
        ("SESSION_CONTEXT('CONN_ID')", "1"),
        ("CASE WHEN CURRENT_DATE = TO_DATE(CURRENT_TIMESTAMP) THEN 'ok' END", "ok"),
        ("(SELECT MAX(DUMMY) FROM DUMMY)", "X"),
        ("IS_SQL_INJECTION_SAFE('a', 1)", 1),
        ("IS_SQL_INJECTION_SAFE('a; DROP TABLE b', 1)", 0),
    ],
)
def test_expressions(reader: Sql, expression: str, expected: Any) -> None:
    found = reader.value(f"SELECT {expression} FROM DUMMY")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELEC 1 FROM DUMMY", 257),
        ("SELECT 1", 257),
        ("SELECT , FROM DUMMY", 257),
        ("SELECT 1 FROM DUMMY WHERE", 257),
        ("SELECT (1 FROM DUMMY", 257),
        ("SELECT 'a FROM DUMMY", 257),
        ("SELECT 1 FROM DUMMY; SELECT 2 FROM DUMMY", 257),
        ("", 257),
        ("SELECT * FROM NOTHING", 259),
        ("SELECT * FROM NOWHERE.T", 362),
        ("SELECT NOTHING FROM DUMMY", 260),
        ("SELECT D.NOTHING FROM DUMMY D", 260),
        ("SELECT DUMMY FROM DUMMY A, DUMMY B", 268),
        ("SELECT NO_SUCH_FUNCTION(1) FROM DUMMY", 328),
        ("SELECT SUBSTR('a') FROM DUMMY", 316),
        ("SELECT 1 / 0 FROM DUMMY", 304),
        ("SELECT 1.5 / 0 FROM DUMMY", 304),
        ("SELECT TO_INTEGER('x') FROM DUMMY", 339),
        ("SELECT TO_DATE('2024-02-30') FROM DUMMY", 303),
        ("SELECT 2147483647 + 1 FROM DUMMY", 314),
        ("SELECT TO_TINYINT(256) FROM DUMMY", 314),
        ("SELECT 1 FROM DUMMY UNION SELECT 1, 2 FROM DUMMY", 270),
        ("SELECT 1 FROM DUMMY ORDER BY 2", 280),
        ("SELECT DUMMY, COUNT(*) FROM DUMMY", 277),
        ("SELECT 1 FROM DUMMY WHERE COUNT(*) > 1", 275),
        ("SELECT (SELECT 1 FROM DUMMY UNION ALL SELECT 2 FROM DUMMY) FROM DUMMY", 305),
        ("SELECT TO_REAL_VECTOR('[1,x]') FROM DUMMY", 339),
        ("SELECT COSINE_SIMILARITY(TO_REAL_VECTOR('[1]'), TO_REAL_VECTOR('[1,2]')) FROM DUMMY", 2048),
        ("SELECT COSINE_SIMILARITY('[1]', '[1]') FROM DUMMY", 266),
        ("SELECT CAST(1 AS NONSENSE) FROM DUMMY", 264),
        ("SELECT DATE '2024-01-01' + TIME '10:00:00' FROM DUMMY", 266),
        ("SELECT S.NEXTVAL FROM DUMMY", 260),
        ("SELECT SQRT(-1) FROM DUMMY", 2),
        ("SELECT POWER(10, 400) FROM DUMMY", 314),
        ("SELECT 1e400 FROM DUMMY", 314),
        ("SELECT CAST(12345 AS DECIMAL(3, 1)) FROM DUMMY", 314),
        ("SELECT TO_DATE('2020-01-01', 'YYYY/MM/DD') FROM DUMMY", 303),
        ("SELECT ADD_MONTHS(DATE '9999-12-01', 5) FROM DUMMY", 314),
        ("SELECT ROW_NUMBER() FROM DUMMY", 257),
        ("SELECT DUMMY FROM DUMMY LIMIT -1", 257),
        ("SELECT 1 FROM DUMMY, DUMMY", 271),
        ("SELECT REPLACE_REGEXPR('(' IN 'a' WITH 'b') FROM DUMMY", 1024),
        ("CALL SOMETHING()", 328),
        ("CALL _SYS_AFL.PAL_KMEANS(A, B)", 7),
        ("DO BEGIN COMMIT; END", 7),
        ("CREATE TABLE T (P ST_POINT)", 7),
        ("CREATE VIRTUAL TABLE T AT X", 7),
        ("SELECT * FROM SPARQL_TABLE('x')", 7),
        ("WITH RECURSIVE R AS (SELECT 1 AS A FROM DUMMY) SELECT * FROM R", 7),
    ],
)
def test_errors(reader: Sql, statement: str, code: int) -> None:
    assert reader.code(statement) == code


def test_error_positions(sql: Sql) -> None:
    from hana_ai.api.local.hana.interface import HanaError

    for statement, mark in (
        ("SELECT 1 FRM DUMMY X", "DUMMY"),
        ("SELECT A, WRONG FROM DUMMY", "A"),
        ("SELECT * FROM\n  MISSING", "MISSING"),
    ):
        with pytest.raises(HanaError) as caught:
            sql.run(statement)
        assert caught.value.position == statement.index(mark) + 1


def test_result_columns_are_named_as_hana_names_them(sql: Sql) -> None:
    names = sql.names(
        "SELECT DUMMY, DUMMY AS \"low\", COUNT(*), MAX(DUMMY), 1, 'x', 1 + 2, UPPER(dummy) FROM DUMMY "
        "GROUP BY DUMMY"
    )
    assert names == ["DUMMY", "low", "COUNT(*)", "MAX(DUMMY)", "1", "'x'", "1+2", "UPPER(DUMMY)"]


def test_types_follow_columns_through_projections(sql: Sql) -> None:
    sql.done(
        "CREATE TABLE T (A NVARCHAR(7), B NCLOB, C SECONDDATE, D DECIMAL(10, 2), E TINYINT, V "
        "REAL_VECTOR(3), H HALF_VECTOR, "
        "R REAL, X VARBINARY(9), F DECIMAL)"
    )
    inner = "SELECT * FROM (SELECT * FROM T UNION ALL SELECT * FROM T) WHERE 0 = 1"
    expected = [
        "NVARCHAR(7)", "NCLOB", "SECONDDATE", "DECIMAL(10, 2)", "TINYINT", "REAL_VECTOR(3)", "HALF_VECTOR", "REAL",
        "VARBINARY(9)", "DECIMAL",
    ]  # fmt: skip
    assert sql.types(inner) == expected
    assert sql.types("SELECT A || 'xy', SUM(D), COUNT(*), AVG(E), MAX(C), MIN(R) FROM T GROUP BY A") == [
        "NVARCHAR(9)", "DECIMAL(38, 2)", "BIGINT", "DECIMAL", "SECONDDATE", "REAL",
    ]  # fmt: skip
    sql.done("CREATE TABLE U AS (SELECT A, D * 2 AS DD, E + 1 AS E1, V FROM T)")
    assert sql.types("SELECT * FROM U") == ["NVARCHAR(7)", "DECIMAL(20, 2)", "INTEGER", "REAL_VECTOR(3)"]


def test_parameters_get_the_type_of_their_context(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER, B NVARCHAR(9), C DATE, V REAL_VECTOR(2), D DECIMAL(9, 2), N NCLOB)")

    def parameters(statement: str) -> list[str]:
        return [item.type.name for item in sql.session.prepare(statement).parameters]

    assert parameters("INSERT INTO T VALUES (?, ?, ?, ?, ?, ?)") == [
        "INTEGER", "NVARCHAR", "DATE", "REAL_VECTOR", "DECIMAL", "NCLOB",
    ]  # fmt: skip
    assert parameters("INSERT INTO T (V, A) VALUES (TO_REAL_VECTOR(?), ? + 1)") == ["NCLOB", "INTEGER"]
    assert parameters("SELECT * FROM T WHERE A = ? AND B LIKE ? AND C BETWEEN ? AND ? AND D IN (?, ?)") == [
        "INTEGER", "NVARCHAR", "DATE", "DATE", "DECIMAL", "DECIMAL",
    ]  # fmt: skip
    assert parameters("UPDATE T SET B = ?, D = D + ? WHERE A = ?") == ["NVARCHAR", "DECIMAL", "INTEGER"]
    assert parameters("SELECT ? FROM DUMMY LIMIT ?") == ["NVARCHAR", "BIGINT"]
    assert parameters("SELECT COSINE_SIMILARITY(V, ?) FROM T") == ["REAL_VECTOR"]
    assert parameters("SELECT A FROM T WHERE ? = A AND '? not one' <> B -- ?") == ["INTEGER"]


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ("TINYINT", 255, 255),
        ("SMALLINT", "-32768", -32768),
        ("INTEGER", D("7.9"), 7),
        ("BIGINT", 2**63 - 1, 2**63 - 1),
        ("DECIMAL(38, 0)", "9" * 38, D("9" * 38)),
        ("DECIMAL(10, 2)", 1.005, D("1.01")),
        ("DECIMAL", "0.1", D("0.1")),
        ("DECIMAL", "12345678901234567890.5", D("12345678901234567890.5")),
        ("DOUBLE", 1.7976931348623157e308, 1.7976931348623157e308),
        ("REAL", 0.5, 0.5),
        ("BOOLEAN", "true", True),
        ("NVARCHAR(2)", "😀", "😀"),
        ("NVARCHAR(5)", "a\x00b", "a\x00b"),
        ("VARCHAR(10)", "", ""),
        ("NCLOB", "x" * 100_000, "x" * 100_000),
        ("VARBINARY(3)", b"\x00\xff\x01", b"\x00\xff\x01"),
        ("BLOB", b"", b""),
        ("DATE", "0001-01-01", dt.date(1, 1, 1)),
        ("DATE", dt.date(9999, 12, 31), dt.date(9999, 12, 31)),
        ("TIME", "23:59:59", dt.time(23, 59, 59)),
        ("SECONDDATE", "2024-02-29 01:02:03.9", dt.datetime(2024, 2, 29, 1, 2, 3)),
        ("TIMESTAMP", "9999-12-31 23:59:59.999999", dt.datetime(9999, 12, 31, 23, 59, 59, 999999)),
        ("TIMESTAMP", "0001-01-01 00:00:00", dt.datetime(1, 1, 1)),
    ],
)
def test_values_go_in_and_out(scratch: Sql, declared: str, given: Any, expected: Any) -> None:
    scratch.done(f"CREATE TABLE T (ID INTEGER, A {declared})")
    scratch.run("INSERT INTO T VALUES (?, ?)", (1, given))
    scratch.run("INSERT INTO T VALUES (?, ?)", (2, given), (3, None), (4, given))
    found = scratch.rows("SELECT A FROM T ORDER BY ID")
    assert found == [(expected,), (expected,), (None,), (expected,)]
    assert type(found[0][0]) is type(expected)
    assert scratch.rows("SELECT A FROM T WHERE ID = 1 UNION ALL SELECT A FROM T WHERE ID = 3") in (
        [(expected,), (None,)], [(None,), (expected,)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "given", "code"),
    [
        ("TINYINT", -1, 314),
        ("SMALLINT", 32768, 314),
        ("INTEGER", "abc", 339),
        ("BIGINT", 2**63, 314),
        ("DECIMAL(3, 1)", "123", 314),
        ("NVARCHAR(2)", "abc", 274),
        ("NVARCHAR(3)", "😀😀", 274),
        ("VARBINARY(2)", b"abc", 274),
        ("DATE", "2023-02-29", 303),
        ("DATE", "hello", 303),
        ("TIMESTAMP", "2023-01-01 25:00:00", 303),
        ("BOOLEAN", "maybe", 339),
        ("REAL_VECTOR(3)", np.array([1, 2], dtype=np.float32), 2048),
        ("REAL_VECTOR(3)", b"abc", 339),
    ],
)
def test_values_that_do_not_fit(scratch: Sql, declared: str, given: Any, code: int) -> None:
    scratch.done(f"CREATE TABLE T (A {declared} NOT NULL)")
    assert scratch.code("INSERT INTO T VALUES (?)", (given,)) == code
    assert scratch.code("INSERT INTO T VALUES (?)", (given,), (given,)) == code
    assert scratch.code("INSERT INTO T VALUES (?)", (None,)) == 287
    assert scratch.value("SELECT COUNT(*) FROM T") == 0


def test_literals_and_selected_values_are_checked_too(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A NVARCHAR(3), B TINYINT, V REAL_VECTOR(2))")
    assert sql.code("INSERT INTO T (A) VALUES ('abcd')") == 274
    assert sql.code("INSERT INTO T (A) SELECT 'ab' || 'cd' FROM DUMMY") == 274
    assert sql.code("INSERT INTO T (A) VALUES (UPPER(?))", ("abcd",)) == 274
    assert sql.code("INSERT INTO T (B) VALUES (300)") == 314
    assert sql.code("INSERT INTO T (V) VALUES (TO_REAL_VECTOR('[1,2,3]'))") == 2048
    assert sql.code("INSERT INTO T (V) VALUES ('[1,x]')") == 339
    assert sql.code("UPDATE T SET B = 1, B = 2") == 272
    assert sql.code("INSERT INTO T (V) VALUES (TO_REAL_VECTOR(?))", ("[1,2,3]",)) == 2048
    sql.done("INSERT INTO T (A) VALUES ('abc')")
    assert sql.code("UPDATE T SET A = A || 'd'") == 274
    assert sql.code("UPDATE T SET A = ?", ("abcd",)) == 274


def test_half_vectors_round(sql: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER, H HALF_VECTOR(2))")
    exact = np.array([0.1, 1000.3], dtype=np.float32)
    sql.run("INSERT INTO T VALUES (?, ?)", (1, exact))
    sql.run("INSERT INTO T VALUES (2, TO_HALF_VECTOR('[0.1, 1000.3]'))")
    sql.run("INSERT INTO T VALUES (3, TO_HALF_VECTOR(?))", ("[0.1, 1000.3]",))
    rounded = exact.astype(np.float16).astype(np.float32)
    for (found,) in sql.rows("SELECT H FROM T"):
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, rounded)
    assert sql.code("INSERT INTO T VALUES (4, TO_HALF_VECTOR('[1e6, 1]'))") == 314


def test_nulls_sort_first(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER)")
    sql.done("INSERT INTO T VALUES (?)", (2,), (None,), (1,))
    assert sql.rows("SELECT A FROM T ORDER BY A") == [(None,), (1,), (2,)]
    assert sql.rows("SELECT A FROM T ORDER BY A DESC") == [(2,), (1,), (None,)]
    assert sql.rows("SELECT A FROM T ORDER BY A NULLS LAST") == [(1,), (2,), (None,)]
    assert sql.rows("SELECT TOP 1 A FROM T ORDER BY 1 DESC") == [(2,)]
    assert sql.rows("SELECT A FROM T ORDER BY A LIMIT 1 OFFSET 1") == [(1,)]


def test_joins_subqueries_and_windows(sql: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER, G NVARCHAR(1), N INTEGER)")
    sql.done("INSERT INTO T VALUES (?, ?, ?)", (1, "a", 5), (2, "a", 3), (3, "b", 7))
    assert sql.rows("SELECT X.ID, Y.ID FROM T X LEFT JOIN T Y ON X.N < Y.N AND Y.G = 'b' ORDER BY 1") == [
        (1, 3),
        (2, 3),
        (3, None),
    ]
    assert sql.rows("SELECT ID FROM T X WHERE N = (SELECT MAX(N) FROM T Y WHERE Y.G = X.G) ORDER BY ID") == [
        (1,),
        (3,),
    ]
    assert sql.rows("SELECT G, SUM(N) FROM T GROUP BY G HAVING COUNT(*) > 1") == [("a", 8)]
    assert sql.rows("SELECT ID, ROW_NUMBER() OVER (PARTITION BY G ORDER BY N DESC) FROM T ORDER BY ID") == [
        (1, 1),
        (2, 2),
        (3, 1),
    ]
    assert sql.rows("SELECT ID, SUM(N) OVER (ORDER BY ID ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM "
    "T ORDER BY ID") == [
        (1, 5), (2, 8), (3, 10),
    ]  # fmt: skip
    assert sql.value("SELECT STRING_AGG(G, ',' ORDER BY ID DESC) FROM T") == "b,a,a"
    assert sql.value("SELECT COUNT(DISTINCT G) FROM T") == 2
    assert sql.rows("SELECT G FROM T INTERSECT SELECT 'b' FROM DUMMY") == [("b",)]
    assert sql.rows("SELECT G FROM T EXCEPT SELECT 'b' FROM DUMMY") == [("a",)]
    assert sql.rows("WITH A AS (SELECT ID FROM T), B AS (SELECT ID + 1 AS J FROM A) SELECT MAX(J) FROM B") == [
        (4,)
    ]
    assert sql.rows("SELECT (SELECT COUNT(*) FROM T Y WHERE Y.N > X.N) FROM T X ORDER BY X.ID") == [
        (1,),
        (2,),
        (0,),
    ]
    assert sql.rows("SELECT G, COUNT(*) FROM T GROUP BY ROLLUP (G) ORDER BY 1") == [(None, 3), ("a", 2), ("b", 1)]
    assert sql.rows("SELECT ID FROM T WHERE (G, N) IN (SELECT G, MAX(N) FROM T GROUP BY G) ORDER BY ID") == [
        (1,),
        (3,),
    ]
    assert sql.rows("SELECT ID FROM T WHERE N > ALL (SELECT N FROM T WHERE G = 'a')") == [(3,)]
    assert sql.rows("SELECT FIRST_VALUE(ID ORDER BY N), LAST_VALUE(ID ORDER BY N) FROM T") == [(2, 3)]
    assert sql.rows("SELECT MEDIAN(N), CORR(N, ID) FROM T")[0][0] == D(5)


def test_two_names_that_differ_in_case(sql: Sql) -> None:
    sql.done('CREATE TABLE "t" ("a" INTEGER, "A" INTEGER, a_b INTEGER, "A^B" INTEGER)')
    sql.done("CREATE TABLE T (X INTEGER)")
    sql.done('INSERT INTO "t" VALUES (1, 2, 3, 4)')
    assert sql.rows('SELECT "a", a, A_B, "A^B" FROM "t"') == [(1, 2, 3, 4)]
    assert sql.rows('SELECT x."a" FROM (SELECT "a", "A" FROM "t") AS x') == [(1,)]
    assert sql.rows("SELECT * FROM t") == []
    assert sql.code('SELECT "x" FROM T') == 260


def test_changes_by_condition_and_source(sql: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY, N INTEGER DEFAULT 7, S NVARCHAR(9))")
    assert sql.done("INSERT INTO T (ID) VALUES (?)", (1,), (2,), (3,)) == [1, 1, 1]
    assert sql.done("INSERT INTO T (ID, N) SELECT ID + 10, N + 1 FROM T") == [3]
    assert sql.done("UPDATE T SET N = N * 2 WHERE ID > 10") == [3]
    assert sql.done("UPDATE T SET S = ? WHERE ID = ?", ("a", 1), ("b", 2), ("c", 99)) == [1, 1, 0]
    assert sql.done("UPDATE T SET ID = ID + 1") == [6]
    assert sql.done("DELETE FROM T WHERE ID > ?", (10,)) == [3]
    assert sql.rows("SELECT * FROM T ORDER BY ID") == [(2, 7, "a"), (3, 7, "b"), (4, 7, None)]
    assert sql.done("UPDATE T SET N = DEFAULT, S = NULL WHERE ID = 2") == [1]
    assert sql.done(
        "UPDATE T X SET X.N = Y.M FROM T X, (SELECT 3 AS K, 30 AS M FROM DUMMY) Y WHERE X.ID = Y.K"
    ) == [1]
    assert sql.value("SELECT N FROM T WHERE ID = 3") == 30
    assert sql.code("INSERT INTO T VALUES (1)") == 270
    assert sql.code("INSERT INTO T VALUES (1, 2, 'x', 4)") == 269
    assert sql.code("INSERT INTO T (ID, WRONG) VALUES (1, 2)") == 260
    assert sql.code("UPDATE T SET WRONG = 1") == 260


def test_upsert(sql: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY, A NVARCHAR(9), B INTEGER DEFAULT 5)")
    assert sql.done("UPSERT T (ID, A) VALUES (1, 'a') WITH PRIMARY KEY") == [1]
    assert sql.done("UPSERT T VALUES (?, ?, ?) WITH PRIMARY KEY", (1, "x", 1), (2, "y", 2), (2, "z", 3)) == [
        1,
        1,
        1,
    ]
    assert sql.rows("SELECT * FROM T ORDER BY ID") == [(1, "x", 1), (2, "z", 3)]
    assert sql.done("UPSERT T (ID, A) SELECT ID + 1, 'n' FROM T") == [2]
    assert sql.rows("SELECT * FROM T ORDER BY ID") == [(1, "x", 1), (2, "n", 3), (3, "n", 5)]
    assert sql.done("UPSERT T (ID, A, B) VALUES (9, 'w', 9) WHERE ID = 9") == [1]
    assert sql.done("UPSERT T (A) VALUES ('q') WHERE B < 9") == [3]
    assert sql.done("REPLACE T VALUES (9, 'r', 0)") == [1]
    assert sql.rows("SELECT A FROM T ORDER BY ID") == [("q",), ("q",), ("q",), ("r",)]


def test_merge(sql: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY, A NVARCHAR(9))")
    sql.done("CREATE TABLE S (ID INTEGER, A NVARCHAR(9), GONE INTEGER)")
    sql.done("INSERT INTO T VALUES (?, ?)", (1, "a"), (2, "b"), (3, "c"))
    sql.done("INSERT INTO S VALUES (?, ?, ?)", (2, "B", 0), (3, "C", 1), (4, "D", 0))
    assert sql.done(
        "MERGE INTO T USING S ON T.ID = S.ID WHEN MATCHED AND S.GONE = 1 THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET T.A = S.A || T.A WHEN NOT MATCHED THEN INSERT (ID, A) VALUES (S.ID, S.A)"
    ) == [3]
    assert sql.rows("SELECT * FROM T ORDER BY ID") == [(1, "a"), (2, "Bb"), (4, "D")]
    sql.done("INSERT INTO S VALUES (1, 'x', 0)")
    sql.done("INSERT INTO S VALUES (1, 'y', 0)")
    assert sql.code("MERGE INTO T USING S ON T.ID = S.ID WHEN MATCHED THEN UPDATE SET A = S.A") == 305


def test_json_table(sql: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER, J NCLOB)")
    sql.done("INSERT INTO T VALUES (?, ?)", (1, '{"items": [{"n": 1, "s": "a"}, {"n": 2}]}'), (2, '{"items": []}'))
    rows = sql.rows(
        "SELECT T.ID, X.O, X.N, X.S FROM T, JSON_TABLE(T.J, '$.items[*]' COLUMNS (O FOR ORDINALITY, N "
        "INTEGER PATH '$.n', "
        "S NVARCHAR(5) PATH '$.s')) AS X ORDER BY 1, 2"
    )
    assert rows == [(1, 1, 1, "a"), (1, 2, 2, None)]


def test_contains_and_score(sql: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER, A NVARCHAR(50))")
    sql.done("INSERT INTO T VALUES (?, ?)", (1, "The quick brown fox"), (2, "quickly"), (3, None))
    assert sql.rows("SELECT ID FROM T WHERE CONTAINS(A, 'QUICK')") == [(1,)]
    assert sql.rows("SELECT ID FROM T WHERE CONTAINS(A, 'quick*') ORDER BY ID") == [(1,), (2,)]
    assert sql.rows("SELECT ID FROM T WHERE CONTAINS((A), '\"brown fox\"')") == [(1,)]
    assert sql.rows("SELECT ID FROM T WHERE SCORE('fox' IN (A EXACT SEARCH MODE 'text')) > 0") == [(1,)]


def test_comments_hints_and_locks_are_read(sql: Sql) -> None:
    assert sql.value("SELECT /* a ' ? */ 1 -- end ?\n FROM DUMMY WITH HINT(NO_CS_JOIN, X('a'))") == 1
    assert sql.value("SELECT 1 FROM DUMMY;") == 1
    sql.done("CREATE TABLE T (A INTEGER)")
    sql.done("INSERT INTO T VALUES (1)")
    assert sql.rows("SELECT A FROM T WHERE A = 1 FOR UPDATE") == [(1,)]


def test_session_settings(sql: Sql) -> None:
    sql.session.set_variables({"APPLICATION": "pytest"})
    assert sql.value("SELECT SESSION_CONTEXT('APPLICATION') FROM DUMMY") == "pytest"
    sql.run("SET 'MY_VARIABLE' = 'x'")
    assert sql.value("SELECT SESSION_CONTEXT('MY_VARIABLE') FROM DUMMY") == "x"
    sql.run("UNSET 'MY_VARIABLE'")
    assert sql.value("SELECT SESSION_CONTEXT('MY_VARIABLE') FROM DUMMY") is None
    sql.run("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    assert sql.code("SET SCHEMA NOWHERE") == 362
    sql.done("CREATE SCHEMA ELSEWHERE")
    sql.run("SET SCHEMA ELSEWHERE")
    sql.done("CREATE TABLE T (A INTEGER)")
    assert sql.value("SELECT CURRENT_SCHEMA FROM DUMMY") == "ELSEWHERE"
    assert sql.value("SELECT SCHEMA_NAME FROM TABLES WHERE TABLE_NAME = 'T'") == "ELSEWHERE"


def test_a_batch_of_vectors_is_checked_like_each_of_them(sql: Sql) -> None:
    sql.run("CREATE TABLE BATCHED (ID INTEGER, V REAL_VECTOR(2))")
    good = [(number, struct.pack("<I2f", 2, number, 1.0)) for number in range(5)]
    sql.run("INSERT INTO BATCHED VALUES (?, ?)", *good)
    found = sql.rows("SELECT ID, V FROM BATCHED ORDER BY ID")
    assert [list(row[1]) for row in found] == [[float(number), 1.0] for number in range(5)]
    read = [(number, np.array([number, 1.0], np.float32)) for number, _ in good]
    for bad, code in (
        (struct.pack("<I3f", 3, 1.0, 2.0, 3.0), 2048),
        (np.array([1, 2, 3], np.float32), 2048),
        (struct.pack("<I2f", 2, float("nan"), 1.0), 314),
        (np.array([np.nan, 1], np.float32), 314),
        (bytes(12), 339),
    ):
        for rows in (good, read):
            with pytest.raises(HanaError) as caught:
                sql.run("INSERT INTO BATCHED VALUES (?, ?)", *rows, (9, bad))
            assert caught.value.code == code
    sql.run("INSERT INTO BATCHED VALUES (?, ?)", (6, None), (7, "[1, 2]"), (8, good[0][1]))
    assert sql.value("SELECT COUNT(*) FROM BATCHED") == 8


@pytest.mark.parametrize("rows", [[()], [(1,)], [(1, 2, 3)], [(1, 2), ()], [(1, 2), (3,)]])
def test_rows_of_the_wrong_width_are_refused(sql: Sql, rows: list[tuple[int, ...]]) -> None:
    sql.done("CREATE TABLE W (A INTEGER, B INTEGER)")
    assert sql.code("INSERT INTO W VALUES (?, ?)", *rows) == 2
    assert sql.value("SELECT COUNT(*) FROM W") == 0


@pytest.mark.parametrize("count", [3, 40])
def test_in_of_parameters(sql: Sql, count: int) -> None:
    sql.done("CREATE TABLE I (ID INTEGER PRIMARY KEY, TXT NVARCHAR(20), BIG BIGINT, N DECIMAL(10, 2), DAY DATE)")
    sql.done(
        "INSERT INTO I VALUES (?, ?, ?, ?, ?)", *[(n, f"t{n}", n * 2**33, n, "2024-02-29") for n in range(50)]
    )
    marks = ", ".join("?" * count)
    for column, values in (
        ("ID", list(range(count))),
        ("TXT", [f"t{n}" for n in range(count)]),
        ("BIG", [n * 2**33 for n in range(count)]),
        ("N", [f"{n}.00" for n in range(count)]),
    ):
        found = sql.rows(f"SELECT ID FROM I WHERE {column} IN ({marks}) ORDER BY ID", *values)
        assert found == [(n,) for n in range(count)]
        found = sql.rows(f"SELECT ID FROM I WHERE {column} NOT IN ({marks}) ORDER BY ID", *values)
        assert found == [(n,) for n in range(count, 50)]
        with_null = [*values[1:], None]
        found = sql.rows(f"SELECT ID FROM I WHERE {column} IN ({marks}) ORDER BY ID", *with_null)
        assert found == [(n,) for n in range(1, count)]
        assert sql.rows(f"SELECT ID FROM I WHERE {column} NOT IN ({marks})", *with_null) == []
    assert sql.value(f"SELECT COUNT(*) FROM I WHERE DAY IN ({marks})", *["2024-02-29"] * count) == 50
    joined = (
        f"SELECT COUNT(*) FROM I AS A LEFT JOIN I AS B ON A.ID = B.ID AND B.TXT IN ({marks}) WHERE B.ID IS NULL"
    )
    assert sql.value(joined, *[f"t{n}" for n in range(count)]) == 50 - count
    chosen = f"SELECT SUM(CASE WHEN ID IN ({marks}) THEN 1 ELSE 0 END) FROM I"
    assert sql.value(chosen, *range(count)) == count
    update = f"UPDATE I SET TXT = ? WHERE ID IN ({marks})"
    assert sql.done(update, ("x", *range(count)), ("y", *range(1, count + 1))) == [count, count]
    assert sql.rows("SELECT TXT, COUNT(*) FROM I WHERE LENGTH(TXT) = 1 GROUP BY TXT ORDER BY 1") == [
        ("x", 1),
        ("y", count),
    ]
    assert sql.done(f"DELETE FROM I WHERE ID IN ({marks})", tuple(range(count))) == [count]

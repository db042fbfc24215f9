"""Expressions, predicates and functions that are used more rarely, and what is refused in them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.local.hana.engine_support import Sql, engine, other, reader, shared, sql

__all__ = ["engine", "other", "reader", "shared", "sql"]

D = Decimal
UNSUPPORTED, SYNTAX, INCONSISTENT, OVERFLOW, ARGUMENTS = 7, 257, 266, 314, 316


def stock(sql: Sql) -> None:
    sql.run("CREATE TABLE A (ID INTEGER, N NVARCHAR(5))")
    sql.run("CREATE TABLE B (ID INTEGER, N NVARCHAR(5))")
    sql.done("INSERT INTO A VALUES (?, ?)", (1, "a1"), (2, "a2"))
    sql.done("INSERT INTO B VALUES (?, ?)", (2, "b2"), (3, "b3"))


@pytest.fixture(scope="module")
def tables(shared: Sql) -> None:
    shared.run("CREATE TABLE P (A INTEGER, B NVARCHAR(5))")
    shared.done("INSERT INTO P VALUES (?, ?)", (1, "x"), (2, "y"), (3, "x"))
    stock(shared)


@pytest.fixture
def shop(tables: None, reader: Sql) -> Sql:
    return reader


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("-2147483648", -2147483648),
        ("-TO_TINYINT(5)", -5),
        ("12345678901234567890123", D("12345678901234567890123")),
        ("SUBSTRING('hello', 3)", "llo"),
        ("CEIL(5)", 5),
        ("ROUND(TO_DOUBLE(2.567), 1)", 2.6),
        ("NDIV0(1, 0)", 0.0),
        ("NDIV0(1, 4)", 0.25),
        ("CONCAT('a', 'b')", "ab"),
        ("LOCATE('hello', 'l', -1)", 4),
        ("LOCATE('hello', 'l', 1, 3)", 0),
        ("LOCATE_REGEXPR('z' IN 'banana')", 0),
        ("LOCATE_REGEXPR('a' IN 'banana' FROM 3)", 4),
        ("SUBSTRING_REGEXPR('[a-z]' IN 'banana' FROM 3)", "n"),
        ("SUBSTRING_REGEXPR('(a)(n)' IN 'banana' GROUP 2)", "n"),
        ("IS_SQL_INJECTION_SAFE('a -- b', 5)", 0),
        ("IS_SQL_INJECTION_SAFE('\"a', 5)", 0),
        ("TO_DATS('2024-02-29')", "20240229"),
        ("UTCTOLOCAL(TIMESTAMP '2024-01-01 10:00:00', 'UTC')", dt.datetime(2024, 1, 1, 10)),
        ("UTCTOLOCAL(TIMESTAMP '2024-07-01 10:00:00', 'Europe/Berlin')", dt.datetime(2024, 7, 1, 12)),
        ("LOCALTOUTC(TIMESTAMP '2024-01-01 10:00:00', 'Europe/Berlin', 'platform')", dt.datetime(2024, 1, 1, 9)),
        ("LOCALTOUTC(TIMESTAMP '2024-01-01 10:00:00')", dt.datetime(2024, 1, 1, 10)),
        ("TO_VARCHAR(TO_TIME('13:05:06'), 'HH24-MI-SS')", "13-05-06"),
        ("ADD_SECONDS(DATE '2024-01-01', 61)", dt.datetime(2024, 1, 1, 0, 1, 1)),
        ("CURRENT_OBJECT_SCHEMA()", "DBADMIN"),
        ("CURRENT_SCHEMA()", "DBADMIN"),
        ("COALESCE(DATE '2024-01-01', TIMESTAMP '2024-01-01 10:00:00')", dt.datetime(2024, 1, 1)),
        ("COALESCE(NULL, X'00', X'0102')", b"\x00"),
        ("COALESCE(CAST('a' AS NCLOB), 'b')", "a"),
        ("COALESCE(1, '2')", 1),
        ("TO_NVARCHAR(COALESCE(TO_REAL_VECTOR('[1]'), TO_REAL_VECTOR('[1,2]')))", "[1]"),
        ("TO_NVARCHAR(TO_REAL_VECTOR(X'020000000000803F00000040'))", "[1,2]"),
        ("TO_NVARCHAR(TO_REAL_VECTOR(X'02000000003C0040'))", "[1,2]"),
        ("JSON_VALUE('{}', '$.a' NULL ON EMPTY)", None),
        ("JSON_VALUE('no json', '$.a' DEFAULT 'bad' ON ERROR)", "bad"),
        ("JSON_QUERY('{}', '$.a' EMPTY ARRAY ON EMPTY)", "[]"),
        ("JSON_QUERY('{}', '$.a' EMPTY OBJECT ON EMPTY)", "{}"),
        ("JSON_QUERY('no json', '$.a' EMPTY ARRAY ON ERROR)", "[]"),
        ("JSON_QUERY('no json', '$.a' EMPTY OBJECT ON ERROR)", "{}"),
        ("JSON_QUERY('{\"a\": 1}', '$.a' WITH CONDITIONAL WRAPPER)", "[1]"),
        ("JSON_QUERY('{\"a\": [1]}', '$.a' WITH CONDITIONAL WRAPPER)", "[1]"),
        ("JSON_QUERY('{\"a\": [1]}', '$.a' WITHOUT ARRAY WRAPPER)", "[1]"),
        # Predicates.
        ("CASE WHEN (1, 2) = (1, 2) THEN 'y' ELSE 'n' END", "y"),
        ("CASE WHEN (1, 2) <> (1, 2) THEN 'y' ELSE 'n' END", "n"),
        ("CASE WHEN (1, 2) IN ((3, 4), (1, 2)) THEN 'y' ELSE 'n' END", "y"),
        ("CASE WHEN 1 IN ('1', 2) THEN 'y' ELSE 'n' END", "y"),
        ("CASE WHEN '1' IN (1, 'a') THEN 'y' ELSE 'n' END", "y"),
        ("CASE WHEN 1 = '1.0' THEN 'y' ELSE 'n' END", "y"),
        ("CASE WHEN 1 IN (SELECT 1 FROM DUMMY) THEN 'y' ELSE 'n' END", "y"),
        ("CASE WHEN NULL THEN 'y' ELSE 'n' END", "n"),
        ("(SELECT COUNT(DISTINCT A, B) FROM P)", 3),
        ("(SELECT STRING_AGG(DISTINCT B, ',' ORDER BY B) FROM P)", "x,y"),
        ("(SELECT STRING_AGG(B, ',' ORDER BY A) FROM P)", "x,y,x"),
        ("(SELECT NTH_VALUE(B, 2 ORDER BY A) FROM P)", "y"),
        ("(SELECT FIRST_VALUE(B ORDER BY A DESC) FROM P)", "x"),
        ("(SELECT PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY A DESC) FROM P)", 2.5),
        ("(SELECT PERCENTILE_DISC(0.25) WITHIN GROUP (ORDER BY A DESC) FROM P)", 3),
    ],
)
@pytest.mark.usefixtures("tables")
def test_expressions(reader: Sql, expression: str, expected: Any) -> None:
    found = reader.value(f"SELECT {expression} FROM DUMMY")
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        (f"{'9' * 39}", OVERFLOW),
        (f"1.{'9' * 39}", OVERFLOW),
        ("X'0'", SYNTAX),
        ("CASE WHEN 1 IS 2 THEN 1 END", SYNTAX),
        ("CASE WHEN (1, 2) < (1, 2) THEN 1 END", UNSUPPORTED),
        ("CASE WHEN (1, 2) = (1, 2, 3) THEN 1 END", 270),
        ("CASE WHEN 1 = (SELECT 1, 2 FROM DUMMY) THEN 1 END", 269),
        ("CASE WHEN 1 IN (SELECT 1, 2 FROM DUMMY) THEN 1 END", 269),
        ("CASE WHEN TO_REAL_VECTOR('[1]') = 1 THEN 1 END", INCONSISTENT),
        ("(SELECT 1, 2 FROM DUMMY)", 269),
        ("TO_REAL_VECTOR('[1]') || 'a'", INCONSISTENT),
        ("COALESCE(DATE '2024-01-01', X'00')", INCONSISTENT),
        ("UPPER('a') OVER ()", SYNTAX),
        ("MEDIAN(1) WITHIN GROUP (ORDER BY 1)", UNSUPPORTED),
        ("PERCENTILE_CONT(-0.5) WITHIN GROUP (ORDER BY 1)", 2048),
        ("PERCENTILE_DISC(1.1) WITHIN GROUP (ORDER BY 1)", 2048),
        ("PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY CURRENT_DATE)", INCONSISTENT),
        ("EXTRACT(WEEK FROM CURRENT_DATE)", SYNTAX),
        ("ROUND(1.5, 0, ROUND_HALF_EVEN)", UNSUPPORTED),
        ("TO_DECIMAL(1.5, DUMMY)", UNSUPPORTED),
        ("TO_NVARCHAR(CURRENT_DATE, DUMMY)", UNSUPPORTED),
        ("TO_NVARCHAR(12, '99')", UNSUPPORTED),
        ("TO_NVARCHAR(CURRENT_DATE, 'QQQ')", UNSUPPORTED),
        ("UTCTOLOCAL(CURRENT_TIMESTAMP, 'Nowhere')", 2048),
        ("UTCTOLOCAL(CURRENT_TIMESTAMP, 'CET', 'mine')", 2048),
        ("JSON_VALUE('{}', DUMMY)", UNSUPPORTED),
        ("JSON_VALUE('{}', '$.a?(@ > 1)')", UNSUPPORTED),
        ("JSON_VALUE('{}', '$.a' ERROR ON EMPTY)", 1057),
        ("JSON_VALUE('no json', '$.a' ERROR ON ERROR)", 1057),
        ("REPLACE_REGEXPR('a' IN 'banana' WITH 'b' FROM 2)", UNSUPPORTED),
        ("REPLACE_REGEXPR('a' IN 'banana' WITH 'b' OCCURRENCE 2)", UNSUPPORTED),
        ("REPLACE_REGEXPR('a' FLAG 'x' IN 'banana' WITH 'b')", UNSUPPORTED),
        ("LOCATE_REGEXPR(AFTER 'a' IN 'banana')", UNSUPPORTED),
        ("LOCATE_REGEXPR('a' IN 'banana' NONSENSE)", SYNTAX),
        ("SESSION_CONTEXT(DUMMY)", UNSUPPORTED),
        ("BINNING(VALUE => 1, BIN_COUNT => 2)", UNSUPPORTED),
        ("JSON_VALUE('{}', '$.a' WITH)", SYNTAX),
        ("VECTOR_EMBEDDING('a', 'QUERY', 'M', 'R', 'S')", UNSUPPORTED),
        ("TO_REAL_VECTOR(X'0200')", 339),
        ("CAST(1 AS DECIMAL(39, 0))", 264),
        ("CAST(1 AS DECIMAL(3, 4))", 264),
        ("CAST('a' AS NVARCHAR(0))", 264),
        ("CAST('[1]' AS REAL_VECTOR(65001))", 264),
        ("CAST('a' AS INTEGER ARRAY)", UNSUPPORTED),
        ("CAST(1 AS DECIMAL(X, 1))", SYNTAX),
        ("CAST(1 AS DECIMAL(1.5, 1))", SYNTAX),
        # Too few or too many arguments.
        *(
            (call, ARGUMENTS)
            for call in (
                "TO_REAL_VECTOR()",
                "VECTOR_EMBEDDING('a')",
                "GREATEST()",
                "COALESCE(1)",
                "NULLIF(1)",
                "MAP(1, 2)",
                "TO_INTEGER()",
                "TO_DECIMAL()",
                "TO_DATE()",
                "TO_NVARCHAR()",
                "ADD_DAYS(CURRENT_DATE)",
                "UTCTOLOCAL()",
                "SUM()",
                "FIRST_VALUE()",
            )
        ),
    ],
)
def test_what_is_refused(reader: Sql, expression: str, code: int) -> None:
    assert reader.code(f"SELECT {expression} FROM DUMMY") == code


# --- queries ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT A.N, B.N FROM A RIGHT JOIN B ON A.ID = B.ID ORDER BY B.ID", [("a2", "b2"), (None, "b3")]),
        (
            "SELECT A.ID, B.ID FROM A FULL OUTER JOIN B ON A.ID = B.ID ORDER BY A.ID NULLS LAST",
            [(1, None), (2, 2), (None, 3)],
        ),
        ("SELECT X.K FROM (SELECT ID, N FROM A) AS X (K, L) ORDER BY K", [(1,), (2,)]),
        ("SELECT ID FROM (SELECT ID FROM A ORDER BY ID DESC LIMIT 1)", [(2,)]),
        ("(SELECT ID FROM A) ORDER BY ID DESC LIMIT 1", [(2,)]),
        ("(SELECT ID FROM A) ORDER BY 1 LIMIT 1", [(1,)]),
        (
            "SELECT A.ID, X.M FROM A, LATERAL (SELECT MAX(B.ID) AS M FROM B WHERE B.ID > A.ID) AS X ORDER BY A.ID",
            [(1, 3), (2, 3)],
        ),
        (
            "SELECT ID, COUNT(*) FROM A GROUP BY GROUPING SETS ((ID, N), ()) ORDER BY 1 NULLS LAST",
            [(1, 1), (2, 1), (None, 2)],
        ),
        ("SELECT ID FROM A WHERE (ID, N) IN (SELECT ID, 'a1' FROM A) ", [(1,)]),
        ("SELECT ID FROM A WHERE ID IN (SELECT ID FROM B)", [(2,)]),
        ("SELECT ID FROM A WHERE ID = 1 FOR UPDATE NOWAIT", [(1,)]),
        ("SELECT ID FROM A WHERE ID = 1 WITH HINT (NO_USE_OLAP_PLAN)", [(1,)]),
        ("SELECT ID * 2 AS D FROM A ORDER BY D", [(2,), (4,)]),
        ("SELECT LAG(ID, 1, 0) OVER (ORDER BY ID) FROM A ORDER BY ID", [(0,), (1,)]),
        ("SELECT SUM(ID) OVER (ORDER BY ID ROWS UNBOUNDED PRECEDING) FROM A ORDER BY ID", [(1,), (3,)]),
        (
            "SELECT ID FROM A JOIN JSON_TABLE('[7]', '$[*]' COLUMNS (V INTEGER PATH '$')) AS J ON J.V > ID",
            [(1,), (2,)],
        ),
        (
            'SELECT X, Y FROM JSON_TABLE(\'{"a": 1, "b": [{"c": 2}, {"c": 3}]}\', \'$\' COLUMNS '
            "(X INTEGER PATH '$.a', NESTED PATH '$.b[*]' COLUMNS (Y INTEGER PATH '$.c'))) ORDER BY Y",
            [(1, 2), (1, 3)],
        ),
        (
            "SELECT J FROM JSON_TABLE('{\"a\": {\"b\": 1}}', '$' COLUMNS (J NVARCHAR(9) FORMAT JSON PATH '$.a'))",
            [('{"b":1}',)],
        ),
        ("SELECT ID FROM A WHERE CONTAINS(N, 'a*') ORDER BY ID", [(1,), (2,)]),
        ("SELECT ID FROM A WHERE CONTAINS(N, '\"a1\"')", [(1,)]),
        ("SELECT ID FROM A WHERE CONTAINS(N, 'z*')", []),
    ],
)
def test_queries(shop: Sql, query: str, expected: list[Any]) -> None:
    assert shop.rows(query) == expected


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT * FROM A INNER JOIN B", SYNTAX),
        ("SELECT X.* FROM A", 259),
        ("SELECT K FROM (SELECT ID, N FROM A) AS X (K)", 269),
        ("SELECT K FROM (SELECT ID FROM A) AS X (K, L)", 270),
        ("SELECT * FROM TABLE(F())", SYNTAX),
        ("SELECT * FROM SERIES_GENERATE_BIGINT(1, 2)", 328),
        ("SELECT * FROM A FOR JSON", UNSUPPORTED),
        ("SELECT * FROM A FOR NOTHING", SYNTAX),
        ("SELECT * FROM A WITH PARAMETERS ('a' = 'b')", UNSUPPORTED),
        ("SELECT * FROM A WITH NONSENSE", SYNTAX),
        ("SELECT * FROM A WHERE ID IN ()", SYNTAX),
        ("SELECT * FROM A WHERE CONTAINS(*, 'a')", UNSUPPORTED),
        ("SELECT * FROM A WHERE CONTAINS(N)", ARGUMENTS),
        ("SELECT V FROM JSON_TABLE('{}', N COLUMNS (V INTEGER PATH '$'))", UNSUPPORTED),
        ("SELECT S.A.B.ID FROM A", 260),
        ("SELECT COUNT(*) FROM A GROUP BY", SYNTAX),
        ("INSERT INTO A VALUES (1, 'a'), (2, 'b')", SYNTAX),
        ("INSERT INTO A (ID, ID) VALUES (1, 2)", 272),
        ("INSERT INTO A (ID) SELECT 1, 2 FROM DUMMY", 269),
        ("INSERT INTO A (ID, N) SELECT 1 FROM DUMMY", 270),
        ("INSERT INTO A PARTITION (1) VALUES (1, 'a')", UNSUPPORTED),
        ("UPDATE A SET (ID, N) = (SELECT 1, 'a' FROM DUMMY)", UNSUPPORTED),
        ("DELETE HISTORY FROM A", UNSUPPORTED),
        ("MERGE INTO A USING B ON A.ID = B.ID", SYNTAX),
        ("SET NONSENSE", SYNTAX),
        ("ROLLBACK TO SAVEPOINT X", 128),
        ("RELEASE SAVEPOINT X", 128),
        ("SAVEPOINT", SYNTAX),
        ("RELEASE X", SYNTAX),
        ("SET TRANSACTION ISOLATION LEVEL SOMETIMES", SYNTAX),
        ("SET TRANSACTION READ", SYNTAX),
        ("LOCK TABLE A IN INTENTIONAL EXCLUSIVE MODE", UNSUPPORTED),
        ("SELECT * FROM A LEFT JOIN B", SYNTAX),
        ("SELECT A.* + 1 FROM A", SYNTAX),
        ("GRANT ON A TO X", SYNTAX),
    ],
)
def test_statements_that_are_refused(shop: Sql, query: str, code: int) -> None:
    assert shop.code(query) == code
    assert shop.rows("SELECT * FROM A ORDER BY ID") == [(1, "a1"), (2, "a2")]


def test_a_transaction_can_end_by_sql_text(sql: Sql, other: Sql) -> None:
    stock(sql)
    sql.run("DELETE FROM A WHERE ID = 1")
    sql.run("ROLLBACK WORK")
    sql.run("SET TRANSACTION AUTOCOMMIT DDL ON")
    sql.run("DELETE FROM A WHERE ID = 2")
    sql.run("COMMIT")
    assert other.rows("SELECT ID FROM A") == [(1,)]


def test_an_insert_may_leave_out_identities_and_name_defaults(sql: Sql) -> None:
    sql.run(
        "CREATE TABLE T (ID INTEGER GENERATED ALWAYS AS IDENTITY (START WITH 5 INCREMENT BY 2 NO CYCLE), "
        "N INTEGER DEFAULT 9)"
    )
    sql.done("INSERT INTO T VALUES (1)")
    sql.done("INSERT INTO T (N) VALUES (DEFAULT)")
    sql.done("INSERT INTO T (N) (SELECT 3 FROM DUMMY) WITH HINT (IGNORE_PLAN_CACHE)")
    assert sql.rows("SELECT * FROM T ORDER BY ID") == [(5, 1), (7, 9), (9, 3)]


def test_an_upsert_without_a_key_inserts(sql: Sql) -> None:
    sql.run("CREATE TABLE T (A INTEGER)")
    sql.done("UPSERT T VALUES (1)")
    sql.done("UPSERT T SELECT 1 FROM DUMMY")
    assert sql.rows("SELECT A FROM T") == [(1,), (1,)]


def test_how_and_where_a_table_is_stored_may_be_said(sql: Sql) -> None:
    sql.run(
        "CREATE COLUMN TABLE T (ID INTEGER CS_INT, D INTEGER NULL, S AS (ID + 1), G GENERATED ALWAYS AS ID * 2, "
        "N NCLOB MEMORY THRESHOLD 100) "
        "PARTITION BY HASH (ID) PARTITIONS 4 UNLOAD PRIORITY 5 AUTO MERGE COMMENT 'stored'"
    )
    sql.done("INSERT INTO T (ID) VALUES (3)")
    assert sql.rows("SELECT ID, G FROM T") == [(3, 6)]
    assert sql.value("SELECT COMMENTS FROM SYS.TABLES WHERE TABLE_NAME = 'T'") == "stored"


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("CREATE TABLE U (A INTEGER REFERENCES T (ID) ON UPDATE NO ACTION)", SYNTAX),
        ("CREATE TABLE U (A INTEGER, PRIMARY KEY (B))", 260),
        ("CREATE TABLE U (A INTEGER, CONSTRAINT C UNIQUE (A), CONSTRAINT C CHECK (A > 0))", 289),
        ("CREATE TABLE U (A INTEGER DEFAULT )", SYNTAX),
        ("CREATE STRANGE TABLE U (A INTEGER)", SYNTAX),
        ("CREATE TABLE U (A INTEGER) COMMENT 5", SYNTAX),
        ("CREATE TABLE X.Y.U (A INTEGER)", 362),
        ("CREATE TABLE U (A INTEGER GENERATED ALWAYS AS IDENTITY (START WITH 1", SYNTAX),
        ("CREATE TABLE U (A 5)", SYNTAX),
    ],
)
def test_tables_that_are_refused(sql: Sql, statement: str, code: int) -> None:
    sql.run("CREATE TABLE T (ID INTEGER PRIMARY KEY)")
    assert sql.code(statement) == code


def test_a_foreign_key_may_say_that_it_restricts(sql: Sql) -> None:
    sql.run("CREATE TABLE P (ID INTEGER PRIMARY KEY)")
    sql.done("INSERT INTO P VALUES (1)")
    sql.run("CREATE TABLE R (P INTEGER REFERENCES P (ID) ON UPDATE RESTRICT ON DELETE RESTRICT)")
    sql.done("INSERT INTO R VALUES (1)")
    assert sql.code("DELETE FROM P") == 462


@pytest.mark.usefixtures("tables")
def test_percentiles_over_windows(reader: Sql) -> None:
    values = "(SELECT 'A' AS K, X FROM UNNEST(ARRAY(1, 3, 5, 5, 10)) AS a(X) UNION ALL "
    values += "SELECT 'B', X FROM UNNEST(ARRAY(1, 1, 7, NULL)) AS b(X))"
    items = ", ".join(
        f"PERCENTILE_{kind}({fraction}) WITHIN GROUP (ORDER BY X) OVER (PARTITION BY K)"
        for kind in ("CONT", "DISC")
        for fraction in (0.125, 0.5, 0.875)
    )
    assert reader.rows(f"SELECT DISTINCT K, {items} FROM {values} ORDER BY K") == [
        ("A", 2.0, 5.0, 7.5, 1, 5, 10), ("B", 1.0, 1.0, 5.5, 1, 1, 7),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("UNNEST(ARRAY(3, 1, 2)) AS u(x)", [(3,), (1,), (2,)]),
        ("UNNEST(ARRAY(1, 2.5)) AS u", [(Decimal("1.0"),), (Decimal("2.5"),)]),
        (
            "UNNEST(ARRAY('a', NULL, 'c'), ARRAY(1)) WITH ORDINALITY AS u(s, n, place)",
            [("a", 1, 1), (None, None, 2), ("c", None, 3)],
        ),
    ],
)
def test_arrays_become_columns(reader: Sql, source: str, expected: list[tuple[Any, ...]]) -> None:
    assert reader.rows(f"SELECT * FROM {source}") == expected


@pytest.mark.usefixtures("tables")
def test_an_array_may_be_made_of_the_columns_before_it(reader: Sql) -> None:
    found = reader.rows("SELECT A, x FROM P, UNNEST(ARRAY(A, 10 * A)) AS u(x) WHERE A < 3 ORDER BY A, x")
    assert found == [(1, 1), (1, 10), (2, 2), (2, 20)]
    assert reader.rows("SELECT x FROM UNNEST(ARRAY(?, 2)) AS u(x)", 1) == [(1,), (2,)]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("UNNEST(ARRAY(1))", SYNTAX),
        ("UNNEST(ARRAY(1)) AS u(x, y)", 270),
        ("UNNEST(ARRAY(1, DATE '2024-01-01')) AS u", INCONSISTENT),
        ("UNNEST(A) AS u", UNSUPPORTED),
        ("UNNEST(ARRAY(SELECT 1 FROM DUMMY)) AS u", UNSUPPORTED),
        ("UNNEST() AS u", UNSUPPORTED),
        ("TABLE(UP_TO(1))", SYNTAX),
    ],
)
def test_what_is_no_array(reader: Sql, source: str, code: int) -> None:
    assert reader.code(f"SELECT * FROM {source}") == code

"""SQLScript: functions, procedures and anonymous blocks, as far as clients write them."""

from __future__ import annotations

from typing import Any

import pytest

from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from hana_ai.api.local.hana.interface import HanaError
from tests.unit.local.hana.engine_support import Sql, engine, sql

__all__ = ["engine", "sql"]


def results(sql: Sql, text: str, *row: Any) -> list[list[tuple[Any, ...]]]:
    """All result sets of a block or a procedure."""
    first = sql.run(text, row) if row else sql.run(text)
    return [[tuple(item) for item in one.rows] for one in (first, *first.more) if one.rows is not None]


def error(sql: Sql, text: str) -> HanaError:
    with pytest.raises(HanaError) as caught:
        sql.run(text)
    return caught.value


@pytest.fixture
def numbers(sql: Sql) -> Sql:
    sql.run("CREATE TABLE N (X INTEGER, S NVARCHAR(20))")
    sql.done("INSERT INTO N VALUES (?, ?)", *[(number, f"n{number}") for number in range(1, 6)])
    return sql


CONTROL = [
    ("r = 1; WHILE :r < 100 DO r = :r * 3; END WHILE;", 243),
    ("r = 0; FOR i IN 1..4 DO r = :r * 10 + :i; END FOR;", 1234),
    ("r = 0; FOR i IN REVERSE 1 .. 4 DO r = :r * 10 + :i; END FOR;", 4321),
    # Outside a query, where no columns are, a name needs no colon.
    ("r := a + 1; WHILE r < 20 DO r := r * 2; END WHILE; IF \"R\" > 30 THEN r := r + a; END IF;", 39),
    ("r = 7; FOR i IN 3..1 DO r = 0; END FOR;", 7),
    ("r = 0; LOOP r = :r + 1; IF :r >= 5 THEN BREAK; END IF; END LOOP;", 5),
    ("r = 0; FOR i IN 1..6 DO IF MOD(:i, 2) = 0 THEN CONTINUE; END IF; r = :r + :i; END FOR;", 9),
    ("IF :a > 10 THEN r = 1; ELSEIF :a > 5 THEN r = 2; ELSE r = 3; END IF;", 2),
    ("IF NULL = 1 THEN r = 1; ELSE r = 2; END IF;", 2),
    ("r := (SELECT MAX(X) FROM N);", 5),
    ("SELECT COUNT(*), MIN(X) INTO r, other FROM N WHERE X > :a - 5; r = :r * 100 + :other;", 303),
    ("SELECT X INTO r DEFAULT -1 FROM N WHERE X = 99;", -1),
    ("BEGIN DECLARE other NVARCHAR(10) = 'inner'; r = LENGTH(:other); END; r = :r * 10 + :other;", 50),
    ("t = SELECT X FROM N WHERE X > 2; t = SELECT X FROM :t WHERE X < 5; SELECT SUM(X) INTO r FROM :t;", 7),
    ("IF 1 = 0 THEN t = SELECT X FROM N; END IF; SELECT COUNT(*) INTO r FROM :t;", 0),
    ("u = SELECT X FROM N; t = :u; SELECT COUNT(*) INTO r FROM :t AS q WHERE q.X > 3;", 2),
    ("DECLARE z INTEGER ARRAY; z[1] := 4; z[3] := 5; u = UNNEST(:z) AS (\"V\");"
     " SELECT SUM(V) * 10 + COUNT(*) INTO r FROM :u;", 93),
    ("DECLARE z INTEGER ARRAY; z[2] := 8; r = :z[2];", 8),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), CONTROL)
def test_the_same_in_a_block_a_function_and_a_procedure(numbers: Sql, body: str, expected: int) -> None:
    inside = f"DECLARE other INTEGER = 0; {body}"
    block = f"DO (IN a INTEGER => ?, OUT r INTEGER => ?) BEGIN {inside} END"
    assert numbers.run(block, (7,)).outputs == (expected,)
    numbers.run(f"CREATE FUNCTION F (a INTEGER) RETURNS r INTEGER LANGUAGE SQLSCRIPT AS BEGIN {inside} END;")
    assert numbers.value("SELECT F(7) FROM DUMMY") == expected
    numbers.run(f"CREATE PROCEDURE P (IN a INTEGER, OUT r INTEGER) LANGUAGE SQLSCRIPT AS BEGIN {inside} END;")
    assert numbers.run("CALL P(7, ?)").outputs == (expected,)


def test_a_scalar_function_is_called_for_each_row(numbers: Sql) -> None:
    numbers.run(
        "CREATE FUNCTION CLIP (x INTEGER, most INTEGER DEFAULT 3) RETURNS INTEGER AS BEGIN "
        "IF :x > :most THEN RETURN :most; END IF; RETURN :x; END"
    )
    assert numbers.rows("SELECT X, CLIP(X), CLIP(X + 1, ?) FROM N WHERE CLIP(X, 9) < 5 ORDER BY X", 4) == [
        (1, 1, 2), (2, 2, 3), (3, 3, 4), (4, 3, 4),
    ]  # fmt: skip
    assert numbers.done("UPDATE N SET X = CLIP(X, 2)") == [5]
    assert numbers.done("INSERT INTO N VALUES (CLIP(?, 2), 'new')", (1,), (8,)) == [1, 1]
    assert numbers.rows("SELECT X, COUNT(*) FROM N GROUP BY X ORDER BY X") == [(1, 2), (2, 5)]


def test_a_function_of_every_kind_of_value(sql: Sql) -> None:
    values = {
        "NVARCHAR(20)": "'ä😀'", "DECIMAL(10, 2)": "1.25", "DOUBLE": "0.1", "DATE": "DATE '2024-02-29'",
        "TIMESTAMP": "TIMESTAMP '2024-02-29 01:02:03.5'", "BOOLEAN": "TRUE", "VARBINARY(4)": "X'00FF'",
        "REAL_VECTOR(2)": "TO_REAL_VECTOR('[1,0.5]')", "NCLOB": "TO_NCLOB('long')", "TIME": "TIME '01:02:03'",
    }  # fmt: skip
    sql.run(f"CREATE TABLE V ({', '.join(f'C{i} {kind}' for i, kind in enumerate(values))})")
    sql.done(f"INSERT INTO V SELECT {', '.join(values.values())} FROM DUMMY")
    for number, (kind, value) in enumerate(values.items()):
        sql.run(f"CREATE FUNCTION F{number} (v {kind}) RETURNS w {kind} AS BEGIN w = :v; END")
        once, row, plain = sql.rows(f"SELECT F{number}({value}), F{number}(C{number}), C{number} FROM V")[0]
        assert str(once) == str(row) == str(plain)
        assert sql.value(f"SELECT F{number}(NULL) FROM DUMMY") is None


def test_a_table_function_sees_the_changes_of_its_transaction(numbers: Sql) -> None:
    numbers.run(
        "CREATE FUNCTION UP_TO (IN most INTEGER) RETURNS TABLE (NUMBER INTEGER, NAME NVARCHAR(20)) "
        "LANGUAGE SQLSCRIPT READS SQL DATA AS BEGIN found = SELECT * FROM N WHERE X <= :most; "
        "RETURN SELECT X AS NUMBER, S AS NAME FROM :found; END;"
    )
    numbers.run("INSERT INTO N VALUES (0, 'zero')")
    found = numbers.rows("SELECT u.NAME FROM UP_TO(?) AS u JOIN N ON N.X = u.NUMBER ORDER BY 1", 2)
    assert found == [("n1",), ("n2",), ("zero",)]
    assert numbers.names("SELECT * FROM UP_TO(1)") == ["NUMBER", "NAME"]
    assert numbers.value("SELECT COUNT(*) FROM UP_TO(most => 0)") == 1
    assert numbers.code("SELECT * FROM UP_TO(least => 0)") == 1281
    assert numbers.code("SELECT * FROM UP_TO(1, most => 0)") == 1281
    assert numbers.code("SELECT * FROM TABLE(UP_TO(1))") == 257
    numbers.session.rollback()
    assert numbers.value("SELECT COUNT(*) FROM UP_TO(2) WHERE NUMBER IN (SELECT NUMBER FROM UP_TO(1))") == 1


def test_map_merge_calls_a_function_for_each_row(numbers: Sql) -> None:
    numbers.run(
        "CREATE FUNCTION TWICE (IN x INTEGER, IN tag NVARCHAR(5)) RETURNS TABLE (K INTEGER, V NVARCHAR(30)) "
        "AS BEGIN RETURN SELECT :x AS K, :tag || :x AS V FROM DUMMY UNION ALL SELECT -:x, 'minus' FROM DUMMY; END"
    )
    block = (
        "DO (IN tag NVARCHAR(5) => ?) BEGIN dat = SELECT X, S FROM N; "
        "res = MAP_MERGE(:dat, TWICE(:dat.X, :tag)); "
        "MERGE INTO N AS n USING :res AS r ON n.X = r.K WHEN MATCHED THEN UPDATE SET n.S = r.V; "
        "SELECT COUNT(*), SUM(K) FROM :res; END;"
    )
    assert results(numbers, block, "t") == [[(10, 0)]]
    assert numbers.rows("SELECT S FROM N ORDER BY X") == [("t1",), ("t2",), ("t3",), ("t4",), ("t5",)]


def test_a_procedure_gives_values_tables_and_result_sets(numbers: Sql) -> None:
    numbers.run(
        "CREATE PROCEDURE SPLIT (IN at INTEGER, INOUT total INTEGER, OUT low TABLE (X INTEGER), "
        "IN t TABLE (X INT)) AS BEGIN low = SELECT X FROM :t WHERE X < :at; "
        "SELECT :total + SUM(X) INTO total FROM :t; "
        "SELECT 'seen' FROM DUMMY; END"
    )
    done = numbers.run("CREATE VIEW W AS SELECT X FROM N")
    done = numbers.run("CALL SPLIT(3, ?, ?, W)", (100,))
    assert done.outputs == (115,)
    assert [[tuple(row) for row in one.rows or ()] for one in (done, *done.more)] == [[("seen",)], [(1,), (2,)]]
    block = (
        "DO BEGIN DECLARE total INTEGER = 1; part = SELECT X FROM N WHERE X > 3; "
        "CALL SPLIT(5, total, small, :part); SELECT :total, X FROM :small; END"
    )
    assert results(numbers, block) == [[("seen",)], [(10, 4)]]


def test_a_block_reads_and_fills_tables_by_its_parameters(numbers: Sql) -> None:
    numbers.run("CREATE TABLE O (X INTEGER)")
    numbers.run(
        "DO (IN src TABLE (X INTEGER, S NVARCHAR(20)) => N, OUT dst TABLE (X INTEGER) => O) "
        "BEGIN dst = SELECT X * 2 AS X FROM :src; END"
    )
    assert numbers.value("SELECT SUM(X) FROM O") == 30


def test_what_hana_ml_writes_around_a_procedure_of_its_own(numbers: Sql) -> None:
    body = (
        "DECLARE cnt_0 INTEGER;\ncnt_0 := 0;\nout_0 = SELECT X FROM N;\n"
        "SELECT COUNT(*) INTO cnt_0 FROM M_TABLES WHERE TABLE_NAME='OUT_JOB0';\n"
        'IF :cnt_0 > 0 THEN\n  DROP TABLE "OUT_JOB0";\nEND IF;\n'
        'CREATE TABLE "OUT_JOB0" AS (SELECT * FROM :out_0);\n'
    )
    numbers.run(f'CREATE PROCEDURE "JOB" ()\nAS\nBEGIN\n{body}END;')
    for _ in range(2):
        numbers.run('CALL "JOB"()')
        assert numbers.value('SELECT COUNT(*) FROM "OUT_JOB0"') == 5
    numbers.run("DO BEGIN\nIF 0=1 THEN\n    SELECT * FROM N;\nEND IF;\nEND")


def test_an_error_undoes_all_of_the_statement_and_nothing_before(numbers: Sql) -> None:
    numbers.run("INSERT INTO N VALUES (10, 'before')")
    numbers.run("CREATE PROCEDURE FAIL (IN d INTEGER) AS BEGIN INSERT INTO N VALUES (12, 'p'); d = 1 / :d; END")
    numbers.run("INSERT INTO N VALUES (10, 'before')")
    wrong = error(numbers, "DO BEGIN\n  INSERT INTO N VALUES (11, 'block');\n  CALL FAIL(0);\nEND")
    assert wrong.code == 304
    assert '"DBADMIN"."FAIL": line 1 col' in wrong.message
    assert numbers.rows("SELECT X, COUNT(*) FROM N WHERE X >= 10 GROUP BY X") == [(10, 2)]
    numbers.session.commit()
    numbers.run("CALL FAIL(1)")
    numbers.session.rollback()
    assert numbers.rows("SELECT X FROM N WHERE X > 10") == []


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("DO BEGIN\n  SELECT * FROM NOWHERE;\nEND", 259, "line 2 col 17 (at pos 26)"),
        ("DO BEGIN\n  x = 1;\n\n  y := 2;\nEND", 1287, "line 2 col 3 (at pos 12)"),
        ("DO BEGIN DECLARE x INTEGER;\nSELECT :y INTO x FROM DUMMY; END", 1287, "line 2 col 8"),
        ("DO BEGIN DECLARE x INTEGER;\nSELECT X INTO x FROM N WHERE X < 0; END", 1299, "line 2 col 1"),
        ("DO BEGIN DECLARE x INTEGER;\nSELECT X INTO x FROM N; END", 1300, "line 2 col 1"),
        ("DO BEGIN DECLARE x INTEGER;\nSELECT X, S INTO x FROM N WHERE X = 1; END", 1297, "line 2 col 1"),
        ("DO BEGIN DECLARE x NVARCHAR(2) = 'abc'; END", 274, "line 1 col 10"),
        ("DO BEGIN DECLARE x NVARCHAR(2); x = 'ab' || 'c'; END", 274, "line 1 col 33"),
        ("DO BEGIN DECLARE x CONSTANT INTEGER = 1;\n x = 2; END", 1288, "line 2 col 2"),
        ("DO BEGIN BREAK; END", 1292, "line 1 col 10"),
        ("DO BEGIN CALL NOBODY(1); END", 328, "line 1 col 15"),
        ("DO BEGIN RETURN 1; END", 257, "line 1 col 10"),
    ],
)
def test_errors_have_their_place(numbers: Sql, text: str, code: int, place: str) -> None:
    wrong = error(numbers, text)
    assert (wrong.code, place in wrong.message) == (code, True), wrong.message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("DO BEGIN DECLARE CURSOR c FOR SELECT 1 FROM DUMMY; END", "cursors"),
        ("DO BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION SELECT 1 FROM DUMMY; END", "HANDLER"),
        ("DO BEGIN SIGNAL SQL_ERROR_CODE 10000; END", "SIGNAL"),
        ("DO BEGIN COMMIT; END", "COMMIT in scripts"),
        ("DO BEGIN BEGIN AUTONOMOUS TRANSACTION NULL; END; END", "autonomous"),
        ("DO BEGIN x = CE_COLUMN_TABLE(N); END", "CE_COLUMN_TABLE"),
        ("DO BEGIN CALL _SYS_AFL.PAL_KMEANS(:a, :b); END", "PAL_KMEANS"),
        ("CALL _SYS_AFL.PAL_KMEANS(N, ?)", "PAL_KMEANS"),
        ("DO LANGUAGE GRAPH BEGIN GRAPH g = Graph(\"G\"); END", "LANGUAGE GRAPH"),
        ("CREATE FUNCTION F () RETURNS INT AS BEGIN INSERT INTO N VALUES (1, ''); RETURN 1; END", "changing data"),
        ("CREATE FUNCTION F () RETURNS INT AS BEGIN SELECT 1 FROM DUMMY; RETURN 1; END", "without INTO"),
        ("CREATE PROCEDURE P () READS SQL DATA AS BEGIN DELETE FROM N; END", "changing data"),
        ("CREATE TRIGGER T AFTER INSERT ON N BEGIN END", "triggers"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_by_name(numbers: Sql, text: str, named: str) -> None:
    wrong = error(numbers, text)
    assert (wrong.code, named in wrong.message) == (7, True), wrong.message


def test_routines_call_each_other_32_deep_and_no_deeper(sql: Sql) -> None:
    sql.run("CREATE FUNCTION DOWN (n INTEGER) RETURNS INTEGER AS BEGIN RETURN 0; END")
    sql.run(
        "CREATE OR REPLACE FUNCTION DOWN (n INTEGER) RETURNS r INTEGER AS BEGIN "
        "r = 0; IF :n > 0 THEN r = 1 + DOWN(:n - 1); END IF; END"
    )
    assert sql.value("SELECT DOWN(31) FROM DUMMY") == 31
    assert sql.code("SELECT DOWN(32) FROM DUMMY") == 438
    assert sql.value("SELECT DOWN(3) FROM DUMMY") == 3


def test_scripts_run_statements_given_as_text(numbers: Sql) -> None:
    found = results(
        numbers, "DO BEGIN EXECUTE IMMEDIATE 'DELETE FROM N WHERE X > ' || 2; EXEC 'SELECT X FROM N'; END"
    )
    assert found == [[(1,), (2,)]]


def test_system_views_show_routines(sql: Sql) -> None:
    sql.run("CREATE FUNCTION F (IN a INTEGER, b NVARCHAR(7) DEFAULT 'x') RETURNS TABLE (Y DOUBLE) "
            "AS BEGIN RETURN SELECT 1.5 AS Y FROM DUMMY; END")  # fmt: skip
    sql.run("CREATE PROCEDURE P (INOUT a INTEGER) AS BEGIN a = 1; END")
    assert sql.rows(
        "SELECT FUNCTION_NAME, FUNCTION_USAGE_TYPE, INPUT_PARAMETER_COUNT FROM SYS.FUNCTIONS "
        "WHERE SCHEMA_NAME = ?",
        "DBADMIN",
    ) == [("F", "TABLE", 2)]
    assert sql.rows(
        "SELECT PARAMETER_NAME, DATA_TYPE_NAME, LENGTH, PARAMETER_TYPE, HAS_DEFAULT_VALUE "
        "FROM SYS.FUNCTION_PARAMETERS ORDER BY POSITION"
    ) == [
        ("A", "INTEGER", 10, "IN", "FALSE"), ("B", "NVARCHAR", 7, "IN", "TRUE"),
        ("_SYS_RESULT", "TABLE_TYPE", None, "RETURN", "FALSE"),
    ]  # fmt: skip
    assert sql.rows("SELECT COLUMN_NAME, DATA_TYPE_NAME FROM FUNCTION_PARAMETER_COLUMNS") == [("Y", "DOUBLE")]
    assert sql.rows("SELECT PROCEDURE_NAME, INOUT_PARAMETER_COUNT FROM PROCEDURES") == [("P", 1)]
    assert sql.code("CREATE FUNCTION F () RETURNS INT AS BEGIN RETURN 1; END") == 329
    assert sql.code("DROP FUNCTION P") == 328
    sql.run("DROP FUNCTION F")
    sql.run("DROP PROCEDURE P CASCADE")
    assert sql.value("SELECT COUNT(*) FROM FUNCTIONS") == 0


def test_a_function_runs_with_the_privileges_of_its_owner(numbers: Sql, engine: DuckDBEngine) -> None:
    numbers.run("CREATE FUNCTION HOW_MANY () RETURNS r INTEGER AS BEGIN SELECT COUNT(*) INTO r FROM N; END")
    numbers.run("CREATE FUNCTION OWN () RETURNS r INTEGER SQL SECURITY INVOKER AS "
                "BEGIN SELECT COUNT(*) INTO r FROM N; END")  # fmt: skip
    numbers.run("CREATE USER GUEST PASSWORD Secret123")
    guest = Sql(engine.session("GUEST", 2))
    assert guest.code("SELECT DBADMIN.HOW_MANY() FROM DUMMY") == 258
    for name in ("HOW_MANY", "OWN"):
        numbers.run(f"GRANT EXECUTE ON DBADMIN.{name} TO GUEST")
    assert guest.value("SELECT DBADMIN.HOW_MANY() FROM DUMMY") == 5
    assert guest.code("SELECT DBADMIN.OWN() FROM DUMMY") == 258


def test_routines_survive_a_restart(tmp_path: Any) -> None:
    from hana_ai.api.local.hana.credentials import derive

    path = str(tmp_path / "kept.duckdb")
    first = DuckDBEngine(path)
    first.ensure_user("DBADMIN", derive("secret"), admin=True)
    Sql(first.session("DBADMIN", 1)).run(
        "CREATE FUNCTION F (a DECIMAL(5,2), t TABLE (X INT)) RETURNS TABLE (Y DECIMAL(7,2)) "
        "AS BEGIN RETURN SELECT X + :a AS Y FROM :t; END"
    )
    first.close()
    again = DuckDBEngine(path)
    sql = Sql(again.session("DBADMIN", 1))
    assert str(sql.value("SELECT Y FROM F(1.5, (SELECT 2 AS X FROM DUMMY))")) == "3.50"
    again.close()

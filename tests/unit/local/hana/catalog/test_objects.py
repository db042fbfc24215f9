"""DDL, constraints, system views, users and privileges."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.local.hana.catalog.statement_record import MOST_CHARACTERS, MOST_STATEMENTS, StatementRecord
from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from hana_ai.api.local.hana.names import decode, encode
from hana_ai.api.local.hana.translation.system_views import SYSTEM_VIEWS
from tests.unit.local.hana.engine_support import Sql, engine, other, sql

__all__ = ["engine", "other", "sql"]


def test_the_plan_cache_counts_what_was_run(sql: Sql, engine: DuckDBEngine) -> None:
    sql.done("CREATE TABLE T (A INTEGER)")
    sql.done("INSERT INTO T VALUES (?)", (1,), (2,), (3,))
    for most in (1, 2):
        sql.rows("SELECT A FROM T WHERE A <= ?", most)
    assert sql.code("SELECT 1 / 0 FROM DUMMY") == 304
    columns = "EXECUTION_COUNT, PREPARATION_COUNT, PARAMETER_COUNT, TOTAL_RESULT_RECORD_COUNT"
    cache = f"SELECT {columns} FROM M_SQL_PLAN_CACHE WHERE STATEMENT_STRING LIKE ?"
    assert sql.rows(cache, "INSERT INTO T%") == [(1, 1, 1, 3)]
    assert sql.rows(cache, "SELECT A FROM T%") == [(2, 1, 1, 3)]
    assert sql.rows(cache, "SELECT 1 / 0%") == [(0, 1, 0, 0)]
    assert sql.rows(cache, "CREATE TABLE%") == []
    times = "TOTAL_EXECUTION_TIME, AVG_EXECUTION_TIME, MIN_EXECUTION_TIME, MAX_EXECUTION_TIME"
    ((total, mean, least, most),) = sql.rows(
        f"SELECT {times} FROM M_SQL_PLAN_CACHE WHERE STATEMENT_STRING LIKE 'SELECT A FROM T%'"
    )
    assert 0 < least <= mean <= most
    assert total == least + most
    digest = hashlib.md5(b"SELECT A FROM T WHERE A <= ?").hexdigest()
    read = "SELECT USER_NAME, SCHEMA_NAME, LAST_CONNECTION_ID FROM M_SQL_PLAN_CACHE WHERE STATEMENT_HASH = ?"
    assert sql.rows(read, digest) == [("DBADMIN", "DBADMIN", 1)]
    sql.done("CREATE USER ANN PASSWORD Secret1")
    ann = engine.session("ANN", 2)
    Sql(ann).rows("SELECT 5 FROM DUMMY")
    own = {text for (text,) in Sql(ann).rows("SELECT STATEMENT_STRING FROM M_SQL_PLAN_CACHE")}
    assert own == {"SELECT 5 FROM DUMMY", "SELECT STATEMENT_STRING FROM M_SQL_PLAN_CACHE"}
    ann.close()


def test_the_plan_cache_forgets_what_was_run_longest_ago() -> None:
    record = StatementRecord()
    for number in range(MOST_STATEMENTS + 1):
        record.prepared(f"SELECT {number} FROM DUMMY", "A", "A", 0, 0.5)
        record.executed("SELECT 0 FROM DUMMY", "A", "A", 1, 0.25)
    kept = {entry.text for entry in record.entries()}
    assert len(kept) == MOST_STATEMENTS
    assert "SELECT 0 FROM DUMMY" in kept
    assert "SELECT 1 FROM DUMMY" not in kept
    for number in range(3):
        record.prepared(str(number) * (MOST_CHARACTERS // 2), "A", "A", 0, 0.5)
    record.prepared("x" * (MOST_CHARACTERS + 1), "A", "A", 0, 0.5)
    assert [entry.text[0] for entry in record.entries()] == ["1", "2"]


def test_a_view_of_the_session_is_read_anew_each_time(sql: Sql) -> None:
    sql.done("CREATE VIEW V AS SELECT VALUE FROM M_SESSION_CONTEXT WHERE KEY = 'X'")
    for value in ("1", "2"):
        sql.run(f"SET 'X' = '{value}'")
        assert sql.rows("SELECT * FROM V") == [(value,)]


@given(st.text(), st.text())
def test_names_can_be_read_back_and_stay_apart(first: str, second: str) -> None:
    assert decode(encode(first)) == first
    if first != second:
        ascii_fold = str.maketrans({chr(code): chr(code - 32) for code in range(97, 123)})
        assert encode(first).translate(ascii_fold) != encode(second).translate(ascii_fold)


def test_defaults_identities_and_generated_columns(sql: Sql) -> None:
    sql.done(
        "CREATE COLUMN TABLE T (ID BIGINT GENERATED ALWAYS AS IDENTITY (START WITH 5 INCREMENT BY 5), A "
        "INTEGER DEFAULT 3, "
        "B NVARCHAR(20) DEFAULT 'it''s', C TIMESTAMP DEFAULT CURRENT_TIMESTAMP, D INTEGER GENERATED "
        "ALWAYS AS A * 2, "
        "E NVARCHAR(30) GENERATED ALWAYS AS (UPPER(B) || (A * 2)))"
    )
    sql.done("INSERT INTO T (A) VALUES (1)")
    sql.done("INSERT INTO T (B) VALUES (?)", ("x",), ("y",))
    assert sql.rows("SELECT ID, A, B, D, E FROM T ORDER BY ID") == [
        (5, 1, "it's", 2, "IT'S2"), (10, 3, "x", 6, "X6"), (15, 3, "y", 6, "Y6"),
    ]  # fmt: skip
    assert sql.value("SELECT CURRENT_IDENTITY_VALUE() FROM DUMMY") == 15
    assert sql.value("SELECT COUNT(*) FROM T WHERE C IS NULL") == 0
    sql.done("UPDATE T SET A = 10, B = 'z' WHERE ID = 10")
    assert sql.rows("SELECT D, E FROM T WHERE ID = 10") == [(20, "Z20")]
    assert sql.code("INSERT INTO T (D) VALUES (1)") == 1031
    assert sql.code("INSERT INTO T (ID) VALUES (1)") == 1031
    assert sql.code("CREATE TABLE U (A INTEGER, B INTEGER GENERATED ALWAYS AS NOTHING + 1)") == 260
    assert sql.code("CREATE TABLE U (A INTEGER DEFAULT 'x')") == 336


def test_constraints(sql: Sql) -> None:
    sql.done(
        "CREATE TABLE T (A INTEGER, B INTEGER NOT NULL, C INTEGER UNIQUE, D INTEGER CHECK (D > 0), "
        "CONSTRAINT PK PRIMARY KEY (A, B), CONSTRAINT POSITIVE CHECK (A + B > 0))"
    )
    sql.done("INSERT INTO T VALUES (1, 1, 1, 1)")
    assert sql.code("INSERT INTO T VALUES (1, 1, 2, 1)") == 301
    assert sql.code("INSERT INTO T VALUES (2, 1, 1, 1)") == 301
    assert sql.code("INSERT INTO T VALUES (2, 1, 3, 0)") == 677
    assert sql.code("INSERT INTO T VALUES (-5, 1, 3, 1)") == 677
    assert sql.code("INSERT INTO T VALUES (NULL, 1, 3, 1)") == 287
    assert sql.code("UPDATE T SET B = NULL") == 287
    rows = sql.rows(
        "SELECT CONSTRAINT_NAME, COLUMN_NAME, IS_PRIMARY_KEY FROM CONSTRAINTS WHERE TABLE_NAME = 'T' ORDER BY 1, 2"
    )
    assert ("PK", "A", "TRUE") in rows
    assert ("PK", "B", "TRUE") in rows
    sql.done("ALTER TABLE T DROP CONSTRAINT POSITIVE")
    sql.done("INSERT INTO T VALUES (-5, 1, 3, 1)")
    sql.done("ALTER TABLE T DROP PRIMARY KEY")
    sql.done("INSERT INTO T VALUES (-5, 1, 4, 1)")
    assert sql.code("ALTER TABLE T ADD PRIMARY KEY (A, B)") == 301
    assert sql.code("CREATE TABLE U (A INTEGER PRIMARY KEY, B INTEGER PRIMARY KEY)") == 294
    assert sql.code("CREATE TABLE U (A NCLOB PRIMARY KEY)") == 264
    assert sql.code("CREATE TABLE U (A INTEGER, A INTEGER)") == 272


def test_foreign_keys(sql: Sql) -> None:
    sql.done("CREATE TABLE P (ID INTEGER PRIMARY KEY)")
    sql.done("CREATE TABLE C1 (ID INTEGER, P INTEGER REFERENCES P ON DELETE CASCADE)")
    sql.done("CREATE TABLE C2 (P INTEGER, FOREIGN KEY (P) REFERENCES P (ID) ON DELETE SET NULL)")
    sql.done("CREATE TABLE C3 (P INTEGER, CONSTRAINT FK3 FOREIGN KEY (P) REFERENCES P (ID))")
    sql.done("INSERT INTO P VALUES (?)", (1,), (2,), (3,))
    sql.done("INSERT INTO C1 VALUES (?, ?)", (1, 1), (2, 1), (3, 2), (4, None))
    sql.done("INSERT INTO C2 VALUES (?)", (1,), (2,))
    sql.done("INSERT INTO C3 VALUES (3)")
    assert sql.code("INSERT INTO C1 VALUES (9, 99)") == 461
    assert sql.code("UPDATE C3 SET P = 99") == 461
    assert sql.code("DELETE FROM P WHERE ID = 3") == 462
    assert sql.code("UPDATE P SET ID = 30 WHERE ID = 3") == 462
    sql.run("INSERT INTO P VALUES (50)")
    sql.run("DELETE FROM P WHERE ID = 1")
    assert sql.rows("SELECT ID FROM C1 ORDER BY ID") == [(3,), (4,)]
    assert sql.rows("SELECT P FROM C2 ORDER BY P") == [(None,), (2,)]
    assert sql.code("INSERT INTO P VALUES (50)") == 301
    assert sql.rows("SELECT ID FROM C1 ORDER BY ID") == [(3,), (4,)]
    sql.session.rollback()
    assert sql.value("SELECT COUNT(*) FROM C1") == 4
    assert sql.code("DROP TABLE P") == 527
    assert sql.code("DROP TABLE P RESTRICT") == 419
    sql.done("DROP TABLE P CASCADE")
    sql.done("INSERT INTO C3 VALUES (99)")
    assert sql.code("CREATE TABLE C4 (A INTEGER REFERENCES NOWHERE)") == 259
    assert sql.code("CREATE TABLE C4 (A INTEGER REFERENCES C3 (P))") == 365


def test_altering_tables(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER PRIMARY KEY, B NVARCHAR(5))")
    sql.done("INSERT INTO T VALUES (?, ?)", (1, "x"), (2, "12"))
    sql.done("ALTER TABLE T ADD (C INTEGER DEFAULT 7, D NVARCHAR(3))")
    assert sql.rows("SELECT * FROM T ORDER BY A") == [(1, "x", 7, None), (2, "12", 7, None)]
    sql.done("ALTER TABLE T ALTER (B NVARCHAR(50) NOT NULL)")
    assert sql.types("SELECT B FROM T") == ["NVARCHAR(50)"]
    assert sql.code("INSERT INTO T (A) VALUES (3)") == 287
    assert sql.code("ALTER TABLE T ALTER (B INTEGER)") == 339
    assert sql.code("ALTER TABLE T ALTER (B NVARCHAR(1))") == 274
    sql.done("ALTER TABLE T DROP (C)")
    assert sql.code("SELECT C FROM T") == 260
    sql.done("RENAME COLUMN T.B TO BB")
    assert sql.names("SELECT * FROM T") == ["A", "BB", "D"]
    sql.done("ALTER TABLE T ADD (B INTEGER)")
    sql.done("UPDATE T SET B = 5")
    assert sql.rows("SELECT BB, B FROM T WHERE A = 1") == [("x", 5)]
    sql.done("RENAME TABLE T TO U")
    assert sql.code("SELECT * FROM T") == 259
    assert sql.value("SELECT COUNT(*) FROM U") == 2
    assert sql.code("INSERT INTO U (A, BB) VALUES (1, 'y')") == 301
    sql.done("TRUNCATE TABLE U")
    assert sql.value("SELECT COUNT(*) FROM U") == 0
    sql.done("CREATE TABLE L LIKE U")
    assert sql.names("SELECT * FROM L") == ["A", "BB", "D", "B"]
    sql.done("ALTER TABLE U ADD CONSTRAINT UQ UNIQUE (D)")
    assert sql.code("ALTER TABLE U DROP (NOTHING)") == 260
    assert sql.code("ALTER TABLE U ADD (A INTEGER)") == 272
    assert sql.code("DROP TABLE NOTHING") == 259
    sql.done("DROP TABLE IF EXISTS NOTHING")
    sql.done("ALTER TABLE U PAGE LOADABLE CASCADE")
    sql.done("INSERT INTO U (A, BB) VALUES (8, 'x')")
    sql.done("ALTER TABLE U ADD (MADE TIMESTAMP DEFAULT CURRENT_TIMESTAMP, TXT NVARCHAR(9) DEFAULT '$p0 $h0')")
    assert sql.rows("SELECT TXT FROM U WHERE MADE IS NOT NULL AND TXT = '$p0 $h0' AND A = ?", 8) == [("$p0 $h0",)]
    assert sql.code("CREATE TABLE N (A DATE CHECK (A > CURRENT_DATE))") == 7
    sql.done("MERGE DELTA OF U")


def test_tables_from_queries(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER, B NCLOB)")
    sql.done("INSERT INTO T VALUES (1, 'x')")
    sql.done("CREATE COLUMN TABLE U AS (SELECT A, B, NULL AS N FROM T)")
    assert sql.rows("SELECT * FROM U") == [(1, "x", None)]
    sql.done("CREATE TABLE V (X, Y) AS (SELECT A, B FROM T) WITH NO DATA")
    assert sql.rows("SELECT X, Y FROM V") == []
    sql.done("CREATE LOCAL TEMPORARY COLUMN TABLE #W AS (SELECT * FROM T)")
    assert sql.rows("SELECT * FROM #W") == [(1, "x")]
    assert sql.code("CREATE TABLE U (A INTEGER)") == 288
    sql.done("CREATE TABLE IF NOT EXISTS U (A INTEGER)")
    assert sql.code("CREATE TABLE N.U (A INTEGER)") == 362


def test_views(sql: Sql) -> None:
    sql.done('CREATE TABLE T (A INTEGER, "b" NVARCHAR(5))')
    sql.done("INSERT INTO T VALUES (1, 'x')")
    sql.done('CREATE VIEW V (X, Y) AS SELECT A * 2, "b" FROM T')
    sql.done("CREATE VIEW VV AS SELECT Y, X + 1 AS Z FROM V WHERE X > 0")
    assert sql.rows("SELECT * FROM VV") == [("x", 3)]
    assert sql.rows("SELECT COLUMN_NAME, DATA_TYPE_NAME, LENGTH FROM VIEW_COLUMNS WHERE VIEW_NAME = 'V' "
    "ORDER BY POSITION") == [
        ("X", "INTEGER", 10), ("Y", "NVARCHAR", 5),
    ]  # fmt: skip
    assert sql.code("INSERT INTO V VALUES (1, 'y')") == 7
    assert sql.code("CREATE VIEW V AS SELECT 1 AS A FROM DUMMY") == 322
    sql.done("CREATE OR REPLACE VIEW V AS SELECT A AS X, 'new' AS Y FROM T")
    assert sql.rows("SELECT * FROM VV") == [("new", 2)]
    sql.done("DROP TABLE T")
    assert sql.code("SELECT * FROM VV") == 391
    sql.done("CREATE TABLE T (A INTEGER)")
    sql.done("DROP TABLE T CASCADE")
    assert sql.code("SELECT * FROM V") == 259
    assert sql.code("DROP VIEW V") == 321
    assert sql.code("CREATE VIEW W AS SELECT * FROM NOTHING") == 259


def test_sequences(sql: Sql) -> None:
    sql.done("CREATE SEQUENCE S START WITH 3 INCREMENT BY 2 MAXVALUE 7 CYCLE MINVALUE 1")
    assert [sql.value("SELECT S.NEXTVAL FROM DUMMY") for _ in range(4)] == [3, 5, 7, 1]
    assert sql.value("SELECT S.CURRVAL FROM DUMMY") == 1
    sql.done("ALTER SEQUENCE S RESTART WITH 5")
    assert sql.value("SELECT S.NEXTVAL FROM DUMMY") == 5
    assert sql.code("CREATE SEQUENCE S") == 324
    sql.done("CREATE SEQUENCE DOWN INCREMENT BY -1 START WITH -1")
    assert [sql.value("SELECT DOWN.NEXTVAL FROM DUMMY") for _ in range(2)] == [-1, -2]
    sql.done("DROP SEQUENCE S")
    assert sql.code("DROP SEQUENCE S") == 313
    sql.done("CREATE SEQUENCE T")
    assert sql.code("SELECT T.CURRVAL FROM DUMMY") == 326


def test_indexes(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER, B NVARCHAR(5), V REAL_VECTOR(2))")
    sql.done("CREATE INDEX I ON T (A, B DESC)")
    sql.done(
        "CREATE HNSW VECTOR INDEX H ON T (V) SIMILARITY FUNCTION COSINE_SIMILARITY BUILD CONFIGURATION "
        "'{\"M\": 8}' ONLINE"
    )
    sql.done("CREATE UNIQUE INDEX U ON T (B)")
    sql.done("INSERT INTO T (B) VALUES ('x')")
    assert sql.code("INSERT INTO T (B) VALUES ('x')") == 301
    assert sql.rows("SELECT INDEX_NAME, INDEX_TYPE FROM INDEXES WHERE TABLE_NAME = 'T' ORDER BY 1") == [
        ("H", "HNSW VECTOR"), ("I", "INVERTED VALUE"), ("U", "INVERTED VALUE UNIQUE"),
    ]  # fmt: skip
    assert sql.code("CREATE INDEX I ON T (A)") == 289
    assert sql.code("CREATE HNSW VECTOR INDEX X ON T (A)") == 264
    sql.done("RENAME INDEX I TO J")
    sql.done("DROP INDEX U")
    sql.done("INSERT INTO T (B) VALUES ('x')")
    assert sql.code("DROP INDEX U") == 261


def test_schemas(sql: Sql) -> None:
    sql.done("CREATE SCHEMA SALES")
    sql.done('CREATE SCHEMA "sales"')
    sql.done("CREATE TABLE SALES.T (A INTEGER)")
    sql.done('CREATE TABLE "sales".T (B INTEGER)')
    sql.done("INSERT INTO SALES.T VALUES (1)")
    assert sql.names('SELECT * FROM "sales".T') == ["B"]
    assert sql.rows("SELECT SALES.T.A, T.A FROM SALES.T") == [(1, 1)]
    assert sql.code("CREATE SCHEMA SALES") == 386
    assert sql.code("DROP SCHEMA SALES") == 419
    sql.done("DROP SCHEMA SALES CASCADE")
    assert sql.code("SELECT * FROM SALES.T") == 362
    sql.done("CREATE SCHEMA SYSTEM")
    sql.done("CREATE TABLE SYSTEM.T (A INTEGER)")
    assert sql.value("SELECT COUNT(*) FROM SYSTEM.T") == 0


def test_temporary_tables_belong_to_one_connection(sql: Sql, other: Sql) -> None:
    sql.done("CREATE LOCAL TEMPORARY TABLE #T (A INTEGER PRIMARY KEY)")
    sql.done("INSERT INTO #T VALUES (1)")
    assert sql.code("INSERT INTO #T VALUES (1)") == 301
    assert other.code("SELECT * FROM #T") == 259
    other.done("CREATE LOCAL TEMPORARY TABLE #T (B NVARCHAR(3))")
    assert other.rows("SELECT * FROM #T") == []
    sql.done("DROP TABLE #T")
    sql.done("CREATE GLOBAL TEMPORARY TABLE G (A INTEGER)")
    sql.done("INSERT INTO G VALUES (1)")
    other.done("INSERT INTO G VALUES (?)", (2,), (3,))
    assert sql.rows("SELECT * FROM G") == [(1,)]
    assert other.value("SELECT SUM(A) FROM G") == 5
    sql.done("CREATE GLOBAL TEMPORARY TABLE D (A INTEGER) ON COMMIT DELETE ROWS")
    sql.run("INSERT INTO D VALUES (1)")
    assert sql.value("SELECT COUNT(*) FROM D") == 1
    sql.session.commit()
    assert sql.value("SELECT COUNT(*) FROM D") == 0
    assert sql.code("CREATE TABLE #X (A INTEGER)") == 257


def test_comments(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER COMMENT 'first', B INTEGER) COMMENT 'a table'")
    sql.done("COMMENT ON COLUMN T.B IS 'it''s second'")
    assert sql.rows("SELECT COMMENTS FROM TABLE_COLUMNS WHERE TABLE_NAME = 'T' ORDER BY POSITION") == [
        ("first",),
        ("it's second",),
    ]
    sql.done("COMMENT ON TABLE T IS 'other'")
    assert sql.value("SELECT COMMENTS FROM TABLES WHERE TABLE_NAME = 'T'") == "other"


@pytest.mark.parametrize("view", sorted(SYSTEM_VIEWS))
def test_every_system_view_answers(sql: Sql, view: str) -> None:
    sql.done("CREATE TABLE T (A INTEGER PRIMARY KEY, B INTEGER REFERENCES T, V REAL_VECTOR)")
    rows = sql.rows(f"SELECT * FROM SYS.{view}")
    assert all(len(row) == len(SYSTEM_VIEWS[view].columns) for row in rows)
    if view in ("M_SESSION_CONTEXT", "M_SQL_PLAN_CACHE"):
        # A statement that asks changes them.
        return
    for place, (column, _) in enumerate(SYSTEM_VIEWS[view].columns):
        asked = f"SELECT v.{column}, (SELECT COUNT(*) FROM SYS.{view}) FROM SYS.{view} v"
        assert sorted(map(repr, sql.rows(asked))) == sorted(repr((row[place], len(rows))) for row in rows)


def test_the_catalog_says_which_model_embeds(sql: Sql) -> None:
    assert ("WORDLLAMA.L2_256", 256) in sql.rows("SELECT MODEL_NAME, DIMENSION FROM SYS.LOOPBACK_MODELS")
    assert sql.code("SELECT VECTOR_EMBEDDING('x', 'QUERY', 'NO_MODEL') FROM DUMMY") == 2048
    assert sql.code("SELECT VECTOR_EMBEDDING('x', 'WRONG', 'SAP_NEB.20240715') FROM DUMMY") == 339
    for model in ("SAP_NEB.20240715", "WORDLLAMA.L2_256"):
        assert sql.value(f"SELECT CARDINALITY(VECTOR_EMBEDDING('x', 'QUERY', '{model}')) FROM DUMMY") == 256
    for model in ("SAP_GXY.20250407", "WORDLLAMA.L2_128"):
        made = f"VECTOR_EMBEDDING('A column store.', 'QUERY', '{model}')"
        assert sql.value(f"SELECT CARDINALITY({made}) FROM DUMMY") == 128
        assert sql.value(f"SELECT L2NORM({made}) FROM DUMMY") == pytest.approx(1.0)


def test_another_model_can_embed() -> None:
    def embedding(texts: list[str], text_type: str) -> np.ndarray:
        return np.array([[len(text), len(text_type)] for text in texts], dtype=np.float32)

    engine = DuckDBEngine(embedding=embedding, cross_encode=lambda text, query: float(query in text))
    engine.ensure_user("DBADMIN", derive("x"), admin=True)
    sql = Sql(engine.session("DBADMIN", 1))
    found = sql.value("SELECT VECTOR_EMBEDDING('abc', 'QUERY', 'SAP_NEB.20240715') FROM DUMMY")
    assert found.tolist() == [3, 5]
    assert sql.value("SELECT CROSS_ENCODE('abc', 'b', 'SAP_CER.20250701') OVER () FROM DUMMY") == 1.0
    engine.close()


@pytest.fixture
def ann(engine: DuckDBEngine, sql: Sql) -> Sql:
    sql.done('CREATE USER ANN PASSWORD "Secret1x" NO FORCE_FIRST_PASSWORD_CHANGE')
    return Sql(engine.session("ANN", 7))


def test_users_own_a_schema_and_see_nothing_else(sql: Sql, ann: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER)")
    sql.done("CREATE SEQUENCE S")
    assert ann.value("SELECT CURRENT_SCHEMA FROM DUMMY") == "ANN"
    ann.done("CREATE TABLE MINE (A INTEGER)")
    ann.done("INSERT INTO MINE VALUES (1)")
    for statement in (
        "SELECT * FROM DBADMIN.T",
        "INSERT INTO DBADMIN.T VALUES (1)",
        "UPDATE DBADMIN.T SET A = 1",
        "DELETE FROM DBADMIN.T",
        "UPSERT DBADMIN.T VALUES (1)",
        "MERGE INTO DBADMIN.T USING MINE ON T.A = MINE.A WHEN MATCHED THEN DELETE",
        "DROP TABLE DBADMIN.T",
        "TRUNCATE TABLE DBADMIN.T",
        "ALTER TABLE DBADMIN.T ADD (B INTEGER)",
        "CREATE TABLE DBADMIN.U (A INTEGER)",
        "CREATE VIEW V AS SELECT * FROM DBADMIN.T",
        "SELECT DBADMIN.S.NEXTVAL FROM DUMMY",
        "CREATE SCHEMA X",
        'CREATE USER BOB PASSWORD "Secret1x"',
        'ALTER USER DBADMIN PASSWORD "Secret1x"',
        "DROP USER DBADMIN",
        "GRANT SELECT ON DBADMIN.T TO ANN",
        "CREATE TABLE SYS.X (A INTEGER)",
    ):
        assert ann.code(statement) == 258, statement
    assert ann.rows("SELECT TABLE_NAME FROM SYS.TABLES") == [("MINE",)]
    assert sql.value("SELECT COUNT(*) FROM ANN.MINE") == 1


def test_granting_and_revoking(sql: Sql, ann: Sql, engine: DuckDBEngine) -> None:
    sql.done("CREATE TABLE T (A INTEGER)")
    sql.done("CREATE TABLE U (A INTEGER)")
    sql.done("GRANT SELECT, INSERT ON T TO ANN")
    assert ann.rows("SELECT * FROM DBADMIN.T") == []
    ann.done("INSERT INTO DBADMIN.T VALUES (1)")
    assert ann.code("DELETE FROM DBADMIN.T") == 258
    assert ann.code("SELECT * FROM DBADMIN.U") == 258
    sql.done("REVOKE SELECT ON T FROM ANN")
    assert ann.code("SELECT * FROM DBADMIN.T") == 258
    sql.done("GRANT SELECT ON SCHEMA DBADMIN TO ANN")
    assert ann.rows("SELECT * FROM DBADMIN.U") == []
    sql.done("GRANT CREATE SCHEMA TO ANN")
    ann.done("CREATE SCHEMA HERS")
    sql.done("CREATE VIEW V AS SELECT A FROM T")
    sql.done("REVOKE SELECT ON SCHEMA DBADMIN FROM ANN")
    sql.done("GRANT SELECT ON V TO ANN WITH GRANT OPTION")
    assert ann.rows("SELECT * FROM DBADMIN.V") == [(1,)]
    sql.done('CREATE USER BOB PASSWORD "Secret1x"')
    ann.done("GRANT SELECT ON DBADMIN.V TO BOB")
    assert Sql(engine.session("BOB", 8)).rows("SELECT * FROM DBADMIN.V") == [(1,)]
    assert sql.code("GRANT SELECT ON T TO NOBODY") == 332
    assert sql.code("GRANT NONSENSE ON T TO ANN") == 334
    assert sql.code("GRANT SOME_ROLE TO ANN") == 7


def test_passwords_and_dropping_users(sql: Sql, ann: Sql, engine: DuckDBEngine) -> None:
    before = engine.credentials("ANN")
    assert before is not None
    assert "Secret1x" not in repr(engine.catalog.entries)
    ann.done('ALTER USER ANN PASSWORD "Another1"')
    after = engine.credentials("ANN")
    assert after is not None
    assert after.salted_pbkdf2 != before.salted_pbkdf2
    assert sql.code('CREATE USER ANN PASSWORD "Secret1x"') == 331
    sql.done("DROP USER ANN")
    assert engine.credentials("ANN") is None
    assert sql.code("DROP USER ANN") == 332
    engine.ensure_user("DBADMIN", derive("new"), admin=True)
    assert sql.value("SELECT COUNT(*) FROM USERS") == 1

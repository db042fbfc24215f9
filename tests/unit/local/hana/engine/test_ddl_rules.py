"""Rules between tables: foreign keys that act, names that are taken or reserved, renaming, DDL in transactions."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from hana_ai.api.local.hana.language.reserved import RESERVED_WORDS
from tests.unit.local.hana.engine_support import Sql, engine, other, reader, shared, sql

__all__ = ["engine", "other", "reader", "shared", "sql"]

UNSUPPORTED, SYNTAX, ROLLED_BACK = 7, 257, 129


# --- foreign keys ---
@pytest.fixture
def family(sql: Sql) -> Sql:
    """Parents 1, 2 and 9, and a table of children for each rule."""
    sql.done("CREATE TABLE P (ID INTEGER PRIMARY KEY, NAME NVARCHAR(10))")
    for number in (1, 2, 9):
        sql.done(f"INSERT INTO P VALUES ({number}, 'p{number}')")
    for rule in ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT"):
        name = rule.replace(" ", "_")
        sql.done(
            f"CREATE TABLE C_{name} (ID INTEGER PRIMARY KEY, P INTEGER DEFAULT 9 REFERENCES P (ID) "
            f"ON UPDATE {rule} ON DELETE {rule}, D INTEGER GENERATED ALWAYS AS (P * 2))"
        )
    return sql


@pytest.mark.parametrize(("rule", "kept"), [("CASCADE", 2), ("SET_NULL", None), ("SET_DEFAULT", 9)])
def test_children_follow_a_key_that_changes(family: Sql, rule: str, kept: int | None) -> None:
    family.done(f"INSERT INTO C_{rule} (ID, P) VALUES (1, 1)")
    family.done(f"INSERT INTO C_{rule} (ID, P) VALUES (2, 2)")
    # The keys change places: only a map from old to new ones can tell the children apart.
    family.done("UPDATE P SET ID = 3 - ID WHERE ID < 9")
    swapped = [(1, kept), (2, 1 if rule == "CASCADE" else kept)]
    assert family.rows(f"SELECT ID, P FROM C_{rule} ORDER BY ID") == swapped
    assert family.rows(f"SELECT ID FROM C_{rule} WHERE IFNULL(D, 0) <> IFNULL(P * 2, 0)") == []


@pytest.mark.parametrize(("rule", "left"), [("CASCADE", []), ("SET_NULL", [(None,)]), ("SET_DEFAULT", [(9,)])])
def test_children_follow_a_parent_that_goes(family: Sql, rule: str, left: list[tuple[int | None]]) -> None:
    family.done(f"INSERT INTO C_{rule} (ID, P) VALUES (1, 1)")
    family.done("DELETE FROM P WHERE ID = 1")
    assert family.rows(f"SELECT P FROM C_{rule}") == left


def test_a_rule_can_forbid_the_change(family: Sql) -> None:
    family.done("INSERT INTO C_RESTRICT (ID, P) VALUES (1, 1)")
    assert family.code("UPDATE P SET ID = 5 WHERE ID = 1") == 462
    assert family.code("DELETE FROM P WHERE ID = 1") == 462
    family.done("UPDATE P SET ID = 5 WHERE ID = 2")
    family.done("INSERT INTO C_SET_DEFAULT (ID, P) VALUES (1, 9)")
    # The default refers to the parent that goes.
    assert family.code("DELETE FROM P WHERE ID = 9") == 461
    assert family.rows("SELECT ID FROM P ORDER BY ID") == [(1,), (5,), (9,)]


def test_a_chain_and_a_table_that_refers_to_itself_follow(sql: Sql) -> None:
    sql.done("CREATE TABLE A (ID INTEGER PRIMARY KEY, BOSS INTEGER REFERENCES A (ID) ON UPDATE CASCADE)")
    sql.done("CREATE TABLE B (A INTEGER PRIMARY KEY REFERENCES A (ID) ON UPDATE CASCADE)")
    sql.done("CREATE TABLE C (B INTEGER REFERENCES B (A) ON UPDATE CASCADE)")
    for statement in ("A VALUES (1, 1)", "A VALUES (2, 1)", "B VALUES (2)", "C VALUES (2)"):
        sql.done(f"INSERT INTO {statement}")
    sql.done("UPDATE A SET ID = ID + 10")
    assert sql.rows("SELECT ID, BOSS FROM A ORDER BY ID") == [(11, 11), (12, 11)]
    assert (sql.value("SELECT A FROM B"), sql.value("SELECT B FROM C")) == (12, 12)


def test_what_followed_is_undone_with_the_change(family: Sql) -> None:
    family.done("INSERT INTO C_CASCADE (ID, P) VALUES (1, 1)")
    family.run("UPDATE P SET ID = 5 WHERE ID = 1")
    assert family.code("INSERT INTO P VALUES (5, 'again')") == 301
    assert family.value("SELECT P FROM C_CASCADE") == 5
    family.session.rollback()
    assert family.value("SELECT P FROM C_CASCADE") == 1


# --- names ---
@pytest.mark.parametrize("word", sorted(RESERVED_WORDS))
def test_a_reserved_word_is_a_name_only_in_quotes(reader: Sql, word: str) -> None:
    assert reader.code(f"CREATE TABLE R ({word.lower()} INTEGER)") == SYNTAX
    assert reader.code(f"CREATE TABLE {word} (A INTEGER)") == SYNTAX
    assert reader.code(f"SELECT 1 AS {word} FROM DUMMY") == SYNTAX
    assert reader.names(f'SELECT 1 AS "{word}" FROM DUMMY') == [word]


def test_any_other_word_is_a_name(sql: Sql) -> None:
    words = ["asc", "desc", "unique", "date", "key", "offset", "by", "user", "default", "escape", "row", "index"]
    for word in words:
        sql.done(f"CREATE TABLE {word} ({word} INTEGER)")
        sql.done(f"INSERT INTO {word} ({word}) VALUES (1)")
        assert sql.rows(f"SELECT {word}.{word} FROM {word} ORDER BY {word}.{word} DESC") == [(1,)]
    assert not RESERVED_WORDS & {word.upper() for word in words}


def test_the_reserved_words_can_be_read(sql: Sql) -> None:
    assert {name for (name,) in sql.rows("SELECT RESERVED_KEYWORD_NAME FROM RESERVED_KEYWORDS")} == RESERVED_WORDS


def test_tables_and_views_share_their_names_and_others_do_not(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER)")
    sql.done("CREATE VIEW V AS SELECT A FROM T")
    sql.done("CREATE SEQUENCE T")
    assert sql.code("CREATE TABLE T (A INTEGER)") == 288
    assert sql.code("CREATE VIEW T AS SELECT 1 AS A FROM DUMMY") == 288
    assert sql.code("CREATE OR REPLACE VIEW T AS SELECT 1 AS A FROM DUMMY") == 288
    assert sql.code("CREATE VIEW V AS SELECT 1 AS A FROM DUMMY") == 322
    assert sql.code("CREATE TABLE V (A INTEGER)") == 322
    assert sql.code("RENAME TABLE T TO V") == 322
    assert sql.code("CREATE SEQUENCE T") == 324


# --- renaming ---
def test_what_refers_to_a_column_follows_its_new_name(sql: Sql) -> None:
    sql.done(
        'CREATE TABLE T (ID INTEGER PRIMARY KEY, PRICE INTEGER UNIQUE CHECK (price > 0), TEXT NVARCHAR(9) '
        "GENERATED ALWAYS AS (TO_NVARCHAR(PRICE) || 'PRICE'))"
    )  # fmt: skip
    sql.done("CREATE TABLE C (P INTEGER REFERENCES T (PRICE) ON UPDATE CASCADE)")
    sql.done('RENAME COLUMN T.PRICE TO "Cost"')
    sql.done('INSERT INTO T (ID, "Cost") VALUES (1, 5)')
    sql.done("INSERT INTO C VALUES (5)")
    assert sql.code('INSERT INTO T (ID, "Cost") VALUES (2, 0)') == 677
    sql.done('UPDATE T SET "Cost" = 6')
    assert sql.rows('SELECT "Cost", TEXT, P FROM T JOIN C ON P = "Cost"') == [(6, "6PRICE", 6)]
    assert sql.value("SELECT REFERENCED_COLUMN_NAME FROM SYS.REFERENTIAL_CONSTRAINTS") == "Cost"


def test_a_table_keeps_its_privileges_and_its_children(sql: Sql) -> None:
    sql.done("CREATE USER ANN PASSWORD Secret1x")
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY)")
    sql.done("CREATE TABLE C (P INTEGER REFERENCES T (ID))")
    sql.done("GRANT SELECT ON T TO ANN")
    sql.done("RENAME TABLE T TO DBADMIN.U")
    assert sql.code("INSERT INTO C VALUES (1)") == 461
    assert sql.rows("SELECT OBJECT_NAME FROM SYS.GRANTED_PRIVILEGES WHERE GRANTEE = 'ANN'") == [("U",)]


def test_an_index_takes_only_a_free_name(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER, B INTEGER)")
    sql.done("CREATE INDEX I ON T (A)")
    sql.done("CREATE INDEX J ON T (B)")
    assert sql.code("RENAME INDEX I TO J") == 289
    assert sql.code("RENAME INDEX I TO OTHER.K") == UNSUPPORTED
    sql.done("RENAME INDEX DBADMIN.I TO DBADMIN.K")
    assert sql.rows("SELECT INDEX_NAME FROM SYS.INDEXES ORDER BY INDEX_NAME") == [("J",), ("K",)]


# --- system views ---
def test_objects_have_a_time_of_creation(sql: Sql) -> None:
    before = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    for statement in (
        "CREATE SCHEMA S",
        "CREATE TABLE T (A INTEGER PRIMARY KEY)",
        "CREATE VIEW V AS SELECT A FROM T",
        "CREATE SEQUENCE Q",
        "CREATE INDEX I ON T (A)",
        "CREATE LOCAL TEMPORARY TABLE #L (A INTEGER)",
    ):
        sql.done(statement)
    wanted = {"SCHEMAS": "S", "TABLES": "T", "VIEWS": "V", "SEQUENCES": "Q", "INDEXES": "I"}
    wanted_rows = [(view, f"{view[:-1] if view != 'INDEXES' else 'INDEX'}_NAME", wanted[view]) for view in wanted]
    for view, column, name in [*wanted_rows, ("TABLES", "TABLE_NAME", "#L")]:
        created = sql.value(f"SELECT CREATE_TIME FROM SYS.{view} WHERE {column} = '{name}'")
        assert before <= created <= dt.datetime.now(dt.UTC).replace(tzinfo=None), view
    created = sql.value("SELECT CREATE_TIME FROM SYS.TABLES WHERE TABLE_NAME = 'T'")
    sql.done("ALTER TABLE T ADD (B INTEGER)")
    assert sql.value("SELECT CREATE_TIME FROM SYS.TABLES WHERE TABLE_NAME = 'T'") == created


def test_a_column_has_one_vector_index_at_most(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A REAL_VECTOR(3), B REAL_VECTOR(3))")
    sql.done("CREATE HNSW VECTOR INDEX I ON T (A)")
    assert sql.code("CREATE HNSW VECTOR INDEX J ON T (A) SIMILARITY FUNCTION L2DISTANCE") == 2048
    sql.done("CREATE HNSW VECTOR INDEX J ON T (B)")
    sql.done("DROP INDEX I")
    sql.done("CREATE HNSW VECTOR INDEX K ON T (A)")


# --- JSON ---
def test_json_documents_have_no_limit(sql: Sql) -> None:
    items = [{"n": number, "text": "x" * 100} for number in range(20_000)]
    sql.done("CREATE TABLE J (DOC NCLOB)")
    sql.done("INSERT INTO J VALUES (?)", [json.dumps({"items": items, "end": "here"})])
    assert sql.value("SELECT JSON_VALUE(DOC, '$.end') FROM J") == "here"
    assert json.loads(sql.value("SELECT JSON_QUERY(DOC, '$.items' RETURNING NCLOB) FROM J")) == items
    table = "JSON_TABLE(J.DOC, '$.items[*]' COLUMNS (N INTEGER PATH '$.n')) AS T"
    assert sql.rows(f"SELECT COUNT(*), SUM(N) FROM J, {table}") == [(20_000, sum(range(20_000)))]


# --- DDL in transactions ---
def test_ddl_can_take_part_in_a_transaction(sql: Sql, other: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY)")
    sql.run("SET TRANSACTION AUTOCOMMIT DDL OFF")
    for commits in (False, True):
        sql.run("INSERT INTO T VALUES (1)")
        sql.run("CREATE TABLE U (A INTEGER)")
        sql.run("ALTER TABLE T ADD (B INTEGER DEFAULT 5)")
        sql.run("CREATE LOCAL TEMPORARY TABLE #L (A INTEGER)")
        assert sql.rows("SELECT ID, B FROM T") == [(1, 5)]
        assert other.code("SELECT A FROM U") == 259
        assert other.names("SELECT * FROM T") == ["ID"]
        if commits:
            sql.session.commit()
        else:
            sql.session.rollback()
            assert sql.code("SELECT A FROM U") == 259
            assert sql.code("SELECT A FROM #L") == 259
            assert sql.rows("SELECT * FROM T") == []
    assert other.rows("SELECT ID, B FROM T") == [(1, 5)]
    sql.run("SET TRANSACTION AUTOCOMMIT DDL ON")
    sql.run("DROP TABLE U")
    assert other.code("SELECT A FROM U") == 259


def test_after_ddl_in_a_transaction_a_failure_ends_it(sql: Sql, other: Sql) -> None:
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY)")
    sql.run("SET TRANSACTION AUTOCOMMIT DDL OFF")
    sql.run("SAVEPOINT S")
    sql.run("CREATE TABLE U (A INTEGER)")
    # Refused before anything has changed: the transaction goes on.
    assert sql.code("CREATE TABLE U (A INTEGER)") == 288
    assert sql.code("ROLLBACK TO SAVEPOINT S") == UNSUPPORTED
    sql.run("INSERT INTO T VALUES (1)")
    assert other.code("CREATE TABLE W (A INTEGER)") == 131
    assert sql.code("INSERT INTO T VALUES (1)") == ROLLED_BACK
    assert sql.code("SELECT A FROM U") == 259
    other.done("CREATE TABLE W (A INTEGER)")


# --- synonyms ---
@pytest.fixture
def named(sql: Sql) -> Sql:
    """A table T with a synonym S, a view V that reads through it, and a public synonym P of the view."""
    sql.done("CREATE TABLE T (A INTEGER PRIMARY KEY, B NVARCHAR(9))")
    sql.done("CREATE SYNONYM S FOR T")
    sql.done("CREATE VIEW V AS SELECT A, B FROM S")
    sql.done("CREATE PUBLIC SYNONYM P FOR V")
    sql.done("INSERT INTO S VALUES (1, 'a')")
    return sql


def test_a_synonym_is_read_and_changed_like_its_table(named: Sql) -> None:
    named.run("UPSERT S VALUES (2, 'b') WITH PRIMARY KEY")
    named.run("UPDATE S SET B = S.B || '!' WHERE S.A = 2")
    named.run(
        "MERGE INTO S USING (SELECT 3 AS N FROM DUMMY) AS n ON S.A = n.N "
        "WHEN NOT MATCHED THEN INSERT VALUES (3, 'c')"
    )
    named.run("DELETE FROM S WHERE S.A = 1")
    named.run("LOCK TABLE S IN EXCLUSIVE MODE")
    assert named.rows("SELECT S.A, DBADMIN.S.B FROM S ORDER BY S.A FOR UPDATE") == [(2, "b!"), (3, "c")]
    assert named.rows("SELECT P.A FROM P ORDER BY 1") == [(2,), (3,)]
    assert named.rows("SELECT o.A FROM S AS o JOIN T ON T.A = o.A WHERE o.A = 3") == [(3,)]


def test_sequences_functions_and_procedures_have_synonyms_too(sql: Sql) -> None:
    sql.done("CREATE SEQUENCE Q START WITH 5")
    sql.done("CREATE PROCEDURE DOUBLE_IT (IN n INTEGER, OUT m INTEGER) AS BEGIN m = 2 * :n; END")
    sql.done(
        "CREATE FUNCTION ROWS_TO (n INTEGER) RETURNS TABLE (X INTEGER) AS BEGIN "
        "RETURN SELECT :n AS X FROM DUMMY; END"
    )
    for name, target in (("QS", "Q"), ("PS", "DOUBLE_IT"), ("FS", "ROWS_TO"), ("TS", "SYS.TABLES")):
        sql.done(f"CREATE SYNONYM {name} FOR {target}")
    assert sql.value("SELECT QS.NEXTVAL FROM DUMMY") == 5
    assert sql.value("DO BEGIN DECLARE m INTEGER; CALL PS(21, m); SELECT :m FROM DUMMY; END") == 42
    assert sql.rows("SELECT X FROM FS(3)") == [(3,)]
    assert sql.rows("SELECT TABLE_NAME FROM TS") == []
    kinds = sql.rows("SELECT SYNONYM_NAME, OBJECT_TYPE FROM SYS.SYNONYMS ORDER BY 1")
    assert kinds == [("FS", "FUNCTION"), ("PS", "PROCEDURE"), ("QS", "SEQUENCE"), ("TS", "VIEW")]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("CREATE SYNONYM S FOR V", 330),
        ("CREATE SYNONYM T FOR V", 288),
        ("CREATE TABLE S (A INTEGER)", 330),
        ("CREATE VIEW S AS SELECT 1 AS A FROM DUMMY", 330),
        ("CREATE PUBLIC SYNONYM TABLES FOR T", 330),
        ("CREATE PUBLIC SYNONYM DBADMIN.X FOR T", SYNTAX),
        ("CREATE SYNONYM X FOR NOTHING", 397),
        ("CREATE SYNONYM X FOR S", UNSUPPORTED),
        ("CREATE SYNONYM NOWHERE.X FOR T", 362),
        ("ALTER TABLE S ADD (C INTEGER)", UNSUPPORTED),
        ("TRUNCATE TABLE S", UNSUPPORTED),
        ("DROP TABLE S", 259),
        ("DROP SYNONYM T", 315),
        ("DROP SYNONYM P", 315),
        ("DROP SYNONYM S RESTRICT", 419),
    ],
)
def test_what_synonyms_are_not(named: Sql, statement: str, code: int) -> None:
    assert named.code(statement) == code
    assert named.rows("SELECT A FROM P") == [(1,)]


def test_a_synonym_can_be_pointed_elsewhere_and_loses_its_object(named: Sql) -> None:
    shown = (
        "SELECT OBJECT_NAME, OBJECT_TYPE, IS_COLUMN_OBJECT, IS_VALID FROM SYS.SYNONYMS WHERE SYNONYM_NAME = 'S'"
    )
    number = "SELECT SYNONYM_OID FROM SYS.SYNONYMS WHERE SYNONYM_NAME = 'S'"
    assert named.rows(shown) == [("T", "TABLE", "TRUE", "TRUE")]
    before = named.value(number)
    named.done("CREATE TABLE U (A INTEGER, B NVARCHAR(9))")
    named.done("CREATE OR REPLACE SYNONYM S FOR U")
    assert (named.rows("SELECT * FROM P"), named.value(number)) == ([], before)
    named.done("DROP TABLE U")
    assert named.rows(shown) == [("U", None, "FALSE", "FALSE")]
    assert (named.code("SELECT * FROM S"), named.code("SELECT * FROM P")) == (259, 391)
    named.done("CREATE TABLE U (A INTEGER, B NVARCHAR(9))")
    assert named.rows("SELECT * FROM P") == []
    named.done("DROP SYNONYM S CASCADE")
    named.done("DROP PUBLIC SYNONYM P")
    assert named.rows("SELECT SYNONYM_NAME FROM SYS.SYNONYMS UNION ALL SELECT VIEW_NAME FROM SYS.VIEWS") == []


def test_what_the_schema_has_comes_before_a_public_synonym(named: Sql) -> None:
    named.done("CREATE PUBLIC SYNONYM X FOR T")
    named.done("CREATE VIEW X AS SELECT 7 AS A FROM DUMMY")
    assert named.rows("SELECT A FROM X") == [(7,)]
    named.done("DROP VIEW X")
    assert named.rows("SELECT A FROM X") == [(1,)]
    named.done("CREATE SYNONYM X FOR V")
    assert named.rows("SELECT OBJECT_NAME FROM SYNONYMS WHERE SYNONYM_NAME = 'X' ORDER BY 1") == [("T",), ("V",)]
    named.done("CREATE SYNONYM SCHEMAS FOR V")
    assert named.rows("SELECT A FROM SCHEMAS") == [(1,)]


def test_a_synonym_gives_no_privilege(named: Sql, engine: DuckDBEngine) -> None:
    named.done("CREATE USER ANN PASSWORD Secret1")
    session = engine.session("ANN", 3)
    ann = Sql(session)
    assert ann.code("SELECT * FROM P") == 258
    assert ann.code("CREATE SYNONYM MINE FOR DBADMIN.T") == 258
    assert ann.code("CREATE PUBLIC SYNONYM MINE FOR DBADMIN.T") == 258
    assert ann.code("DROP PUBLIC SYNONYM P") == 258
    named.done("GRANT SELECT ON V TO ANN")
    assert ann.rows("SELECT A FROM P") == [(1,)]
    named.done("GRANT SELECT ON S TO ANN")
    ann.done("CREATE SYNONYM MINE FOR DBADMIN.T")
    assert ann.rows("SELECT A FROM MINE") == [(1,)]
    session.close()

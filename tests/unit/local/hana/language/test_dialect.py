"""The parser: what it reads, what it refuses, and that names and texts come through unharmed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from hana_ai.api.local.hana.errors import from_duckdb
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.language.statements import parse

_names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1)


@given(name=_names, text=st.text(st.characters(codec="utf-8", exclude_categories=("Cs",))))
def test_quoted_names_and_texts_are_kept_letter_by_letter(name: str, text: str) -> None:
    quoted, literal = name.replace('"', '""'), text.replace("'", "''")
    statement, marks = parse(f'SELECT \'{literal}\' AS "{quoted}" FROM "{quoted}"."{quoted}"')
    assert isinstance(statement, syntax.Query)
    (item,) = statement.query.expressions
    assert item.args["alias"].this == name
    assert item.this.this == text
    assert marks == {}


@settings(max_examples=200)
@given(st.text("SELECT FROM WHERE ()'\"?,.*=<>-/1a", max_size=60))
def test_any_text_is_read_or_refused_with_a_code(text: str) -> None:
    try:
        parse(f"SELECT {text}")
    except HanaError as exc:
        assert exc.code in {7, 257, 264}
        assert 0 <= exc.position <= len(text) + 8


def test_unquoted_names_fold_and_keywords_are_no_names() -> None:
    statement, _ = parse('CREATE TABLE ab."Cd" (x INTEGER, "y" NVARCHAR(3), _z$1 DATE)')
    assert isinstance(statement, syntax.CreateTable)
    assert (statement.name.schema, statement.name.name) == ("AB", "Cd")
    assert [column.name for column in statement.columns] == ["X", "y", "_Z$1"]
    for text in (
        "CREATE TABLE SELECT (A INTEGER)", "SELECT FROM FROM DUMMY", "SELECT A AS FROM FROM T",
        "SELECT A FROM T JOIN U",
        "SELECT A FROM T JOIN U ON", "SELECT A FROM T,", "FROM T", "SELECT A FROM (FROM T)", "SELECT A,, B FROM T",
        "SELECT A FROM T WHERE A = = 1", "SELECT CAST(A) FROM T",
        "UPDATE T SET", "INSERT INTO T VALUES ()", "DELETE T",
    ):  # fmt: skip
        with pytest.raises(HanaError) as caught:
            parse(text)
        assert caught.value.code == 257


def test_placeholders_are_numbered_as_they_stand() -> None:
    _, marks = parse("SELECT ?, '?', \"?\", (? + ?) -- ?\nFROM DUMMY /* ? */ WHERE A = ?")
    assert list(marks.values()) == [0, 1, 2, 3]


def test_functions_stay_calls_with_their_own_names() -> None:
    statement, _ = parse("SELECT SUBSTR(A, 1), TO_DATE(B), IFNULL(C, 1), CONCAT(D, E), LEFT(F, 1) FROM T")
    assert isinstance(statement, syntax.Query)
    names = [item.this for item in statement.query.expressions]
    assert all(isinstance(item, exp.Anonymous) for item in statement.query.expressions)
    assert names == ["SUBSTR", "TO_DATE", "IFNULL", "CONCAT", "LEFT"]


def test_very_deep_and_very_long_statements() -> None:
    parse("SELECT " + " + ".join(["1"] * 2_000) + " FROM DUMMY")
    parse(" UNION ALL ".join(["SELECT 1 FROM DUMMY"] * 500))
    parse(f"SELECT '{'x' * 1_000_000}' FROM DUMMY")
    with pytest.raises(HanaError) as caught:
        parse("SELECT " + "(" * 5_000 + "1" + ")" * 5_000 + " FROM DUMMY")
    assert caught.value.code == 257


def test_a_message_of_the_statement_is_not_taken_for_the_errors_own() -> None:
    import duckdb

    with pytest.raises(duckdb.Error) as caught:
        duckdb.connect().execute("SELECT CAST('x' AS INTEGER), error('HANA:999:no')")
    assert from_duckdb(caught.value).code == 339

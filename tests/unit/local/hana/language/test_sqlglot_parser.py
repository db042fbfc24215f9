"""What is private in sqlglot is used in one module only, and still is what that module takes it for."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from sqlglot.parser import Parser

from hana_ai.api.local.hana.language import sqlglot_parser

MODULE = Path(sqlglot_parser.__file__)
HANA = MODULE.parents[1]

SIGNATURES = {
    "_advance": "times",
    "_find_sql": "start end",
    "_match": "token_type advance expression",
    "_match_text_seq": "texts advance",
    "_match_texts": "texts advance",
    "_parse": "parse_method raw_tokens sql",
    "_parse_alias": "this explicit",
    "_parse_bitwise": "",
    "_parse_case": "",
    "_parse_column": "",
    "_parse_csv": "parse_method sep",
    "_parse_disjunction": "",
    "_parse_from": "joins skip_from_token consume_pipe",
    "_parse_id_var": "any_token tokens",
    "_parse_into": "",
    "_parse_join": "skip_join_token parse_bracket alias_tokens",
    "_parse_joins": "alias_tokens",
    "_parse_order": "this skip_order_token",
    "_parse_projections": "",
    "_parse_query_modifiers": "this",
    "_parse_select": "nested table parse_subquery_alias parse_set_operation consume_pipe",
    "_parse_select_query": "nested table parse_subquery_alias parse_set_operation",
    "_parse_set_operations": "this",
    "_parse_statement": "",
    "_parse_table": "schema joins alias_tokens parse_bracket is_db_reference parse_partition consume_pipe",
    "_parse_table_alias": "alias_tokens",
    "_parse_type": "parse_interval fallback_to_identifier",
    "_parse_wrapped": "parse_method optional",
    "_retreat": "index",
}
ATTRIBUTES = {"_curr", "_index", "_next", "_prev"}


def privates_of(path: Path) -> set[str]:
    """Names with an underscore in front that a file reads, calls or overrides and that sqlglot's parser has."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "name", "")
        if name and name.startswith("_") and not name.startswith("__") and hasattr(Parser, name):
            found.add(name)
    return found


def test_every_private_part_in_use_is_listed_here() -> None:
    assert privates_of(MODULE) == SIGNATURES.keys() | ATTRIBUTES


@pytest.mark.parametrize("name", SIGNATURES)
def test_sqlglot_still_has_the_method(name: str) -> None:
    parameters = list(inspect.signature(getattr(Parser, name)).parameters)
    assert " ".join(parameters[1:]) == SIGNATURES[name]


def test_no_other_module_knows_what_is_private_in_sqlglot() -> None:
    others = [
        path for path in HANA.rglob("*.py") if path != MODULE and "sqlglot" in path.read_text(encoding="utf-8")
    ]
    assert len(others) > 10
    for path in others:
        assert not privates_of(path), path
        assert "tokenizer_core" not in path.read_text(encoding="utf-8"), path


def test_no_name_of_ours_hides_one_of_sqlglot_but_where_it_is_meant_to() -> None:
    for cls in (sqlglot_parser.TokenParser, sqlglot_parser.SqlglotParser):
        hidden = {name for name in vars(cls) if not name.startswith("__") and hasattr(Parser, name)}
        assert hidden <= SIGNATURES.keys()

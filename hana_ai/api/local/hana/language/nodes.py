"""Syntax that is no ordinary call, as nodes of sqlglot's tree."""

from __future__ import annotations

from typing import ClassVar

from sqlglot import exp


class TypedCast(exp.Expression):
    """CAST(this AS type); `to` is a SqlType."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "to": True}


class Regexpr(exp.Expression):
    """REPLACE_REGEXPR and its kin: pattern, flag, text, replacement, start, occurrence, group."""

    arg_types: ClassVar[dict[str, bool]] = {
        "name": True, "pattern": True, "flag": False, "text": True, "replacement": False, "start": False,
        "occurrence": False, "group": False,
    }  # fmt: skip


class LikeRegexpr(exp.Expression):
    """text LIKE_REGEXPR pattern FLAG flag."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "pattern": True, "flag": False}


class JsonScalar(exp.Expression):
    """JSON_VALUE and JSON_QUERY with their clauses."""

    arg_types: ClassVar[dict[str, bool]] = {
        "name": True, "this": True, "path": True, "returning": False, "wrapper": False, "on_empty": False,
        "on_error": False,
    }  # fmt: skip


class JsonTableColumn(exp.Expression):
    """One column of JSON_TABLE; `nested` holds the columns of a NESTED PATH."""

    arg_types: ClassVar[dict[str, bool]] = {
        "name": False, "to": False, "path": False, "ordinality": False, "nested": False,
        "format_json": False, "on_empty": False, "on_error": False,
    }  # fmt: skip


class JsonTable(exp.Expression):
    """JSON_TABLE(this, path COLUMNS (...)) AS alias."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "path": True, "columns": True, "alias": False}


class TableFunction(exp.Expression):
    """A function call in FROM."""

    arg_types: ClassVar[dict[str, bool]] = {"name": True, "schema": False, "expressions": False, "alias": False}


class Unnest(exp.Expression):
    """UNNEST(arrays) [WITH ORDINALITY] AS alias; an array is an exp.Array or a variable of a script."""

    arg_types: ClassVar[dict[str, bool]] = {"expressions": True, "ordinality": False, "alias": False}


class StringAgg(exp.Expression):
    """STRING_AGG(this, separator ORDER BY ...)."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "separator": False, "order": False}


class SearchScore(exp.Expression):
    """SCORE(text IN (columns EXACT SEARCH MODE 'text'))."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "columns": True}


class ExtractPart(exp.Expression):
    """EXTRACT(part FROM this)."""

    arg_types: ClassVar[dict[str, bool]] = {"part": True, "this": True}


class TrimChars(exp.Expression):
    """TRIM([LEADING | TRAILING | BOTH] chars FROM this)."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "chars": False, "side": True}


class NamedArgument(exp.Expression):
    """name => value."""

    arg_types: ClassVar[dict[str, bool]] = {"name": True, "this": True}


class ScriptVariable(exp.Expression):
    """:name, :name[index] or :name.column in SQLScript; `this` is the name."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "index": False, "column": False}


class TableVariable(exp.Expression):
    """:name in FROM."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "alias": False}

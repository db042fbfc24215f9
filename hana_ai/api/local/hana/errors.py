"""HANA's error codes as functions, and DuckDB's errors translated into them.

Codes decide which exception class hdbcli raises, so they are part of the behaviour. SQL that the binder
generates raises them too: it calls DuckDB's `error()` with a text that starts with `MARK`, followed by the code.
"""

from __future__ import annotations

import re

import duckdb

from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.names import decode, literal

MARK = "HANA:"
"""Start of an error text that carries its own code: ``HANA:304:division by zero``."""


def syntax(near: str, position: int = 0) -> HanaError:
    """257, with HANA's usual text."""
    return HanaError(257, f"sql syntax error: incorrect syntax near {near}", position)


def unsupported(feature: str, position: int = 0) -> HanaError:
    """7, for what a real HANA can do and this server cannot."""
    return HanaError(7, f"feature not supported by the loopback server: {feature}", position)


def unknown_table(schema: str, name: str, position: int = 0) -> HanaError:
    """259."""
    return HanaError(259, f"invalid table name:  Could not find table/view {name} in schema {schema}", position)


def unknown_column(name: str, position: int = 0) -> HanaError:
    """260."""
    return HanaError(260, f"invalid column name: {name}", position)


def no_privilege(what: str = "Not authorized") -> HanaError:
    """258."""
    return HanaError(258, f"insufficient privilege: {what}")


def raising(code: int, text: str) -> str:
    """A DuckDB expression that raises this error when it is evaluated."""
    return f"error({literal(f'{MARK}{code}:{text}')})"


def marked(error: HanaError) -> ValueError:
    """The error as a Python function raises it inside DuckDB."""
    return ValueError(f"{MARK}{error.code}:{error.message}")


_RULES: tuple[tuple[str, int, str], ...] = (
    (r"NOT NULL constraint failed: (?P<what>.+)", 287, "cannot insert NULL or update to NULL: {what}"),
    (r"contains NULL values", 287, "cannot insert NULL or update to NULL"),
    (r"Duplicate key \"(?P<what>.+?)\" violates", 301, "unique constraint violated: {what}"),
    (r"(?:PRIMARY KEY or UNIQUE|Data contains duplicates)", 301, "unique constraint violated"),
    (r"CHECK constraint failed", 677, "check constraint violation"),
    (r"Type VARCHAR with value .* can't be cast", 339, "invalid number"),
    (r"Could not parse string .* according to format", 303, "invalid DATE, TIME or TIMESTAMP value"),
    (r"[Uu]nknown [Tt]ime[Zz]one", 2048, "column store error: unknown time zone"),
    (r"Could not cast value", 314, "numeric overflow"),
    (r"Scalar Function with name row_number does not exist", 257, "sql syntax error: OVER is missing"),
    (r"Window functions are not supported here", 257, "sql syntax error: OVER is missing"),
    (r"LIMIT/OFFSET cannot be negative", 257, "sql syntax error: LIMIT and OFFSET cannot be negative"),
    (r"[Oo]verflow|out of range for the destination|can't be cast", 314, "numeric overflow"),
    (r"Casting value .* failed", 314, "numeric overflow"),
    (r"(?:date|timestamp|time) field value out of range", 303, "invalid DATE, TIME or TIMESTAMP value"),
    (r"invalid (?:date|timestamp|time)[a-z ]* field", 303, "invalid DATE, TIME or TIMESTAMP value"),
    (r"Could not (?:convert string|parse|cast).*(?:to|as) (?:DATE|TIME|TIMESTAMP)", 303,
     "invalid DATE, TIME or TIMESTAMP value"),
    (r"Could not convert string .* to BOOL", 339, "invalid boolean value"),
    (r"Could not convert", 339, "invalid number"),
    (r"[Oo]ut [Oo]f [Mm]emory", 4, "cannot allocate enough memory"),
    (r"must appear in the GROUP BY clause", 277, "not a GROUP BY expression"),
    (r"aggregates? (?:function calls? )?cannot|cannot contain aggregates", 275, "aggregate function not allowed"),
    (r"More than one row returned by a subquery", 305, "single-row query returns more than one row"),
    (r"needs to be equal length|same (?:size|dimension|length)|[Ll]ist dimensions must be equal",
     2048, "column store error: the vectors have different dimensions"),
    (r"(?:[Rr]egex|missing \)|invalid perl|bad repetition|missing argument to repetition)", 1024,
     "invalid regular expression"),
)  # fmt: skip

_COMPILED = tuple((re.compile(pattern, re.DOTALL), code, text) for pattern, code, text in _RULES)


# Only at the start: further on, DuckDB may quote a text of the user's that looks the same.
_OWN = re.compile(
    rf"Invalid Input Error: (?:Python exception occurred while executing the UDF: ValueError: )?"
    rf"{MARK}(?P<code>\d+):(?P<detail>[^\n]*)"
)


def from_duckdb(error: duckdb.Error) -> HanaError:
    """Translate a DuckDB error into HANA's."""
    # The rest quotes the statement, whose literals must not be taken for the message.
    text = str(error).partition("\n\nLINE ")[0]
    own = _OWN.match(text)
    if own is not None:
        return HanaError(int(own["code"]), own["detail"])
    if isinstance(error, duckdb.TransactionException) and "onflict" in text:
        return HanaError(138, f"transaction serialization failure: {text}")
    for pattern, code, message in _COMPILED:
        found = pattern.search(text)
        if found:
            detail = found.groupdict().get("what") or ""
            if code == 287 and detail:
                # DuckDB names the column after its own table.
                detail = decode(detail.split("\n")[0].rpartition(".")[2].strip('"'))
            return HanaError(code, message.format(what=detail))
    return HanaError(2, f"general error: {text}")


def is_conflict(error: duckdb.Error) -> bool:
    """Whether another transaction is in the way, so that waiting helps."""
    text = str(error)
    return isinstance(error, duckdb.TransactionException) and "onflict" in text

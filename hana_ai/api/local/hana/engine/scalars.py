"""Functions that DuckDB lacks, registered with it as Python functions."""

from __future__ import annotations

import decimal
import re
import struct
from collections.abc import Callable
from decimal import Decimal

import duckdb
import numpy as np
from duckdb.func import NATIVE, SPECIAL

from hana_ai.api.local.hana.catalog.models import find_model, model_names
from hana_ai.api.local.hana.engine.embedding import CrossEncodeFunction, EmbeddingFunction
from hana_ai.api.local.hana.errors import MARK

_CONTEXT = decimal.Context(prec=50)
_WORDS = re.compile(r"\w+")


def _fail(code: int, text: str) -> ValueError:
    return ValueError(f"{MARK}{code}:{text}")


def initcap(text: str) -> str:
    """Every word with a capital."""
    return _WORDS.sub(lambda word: word.group().capitalize(), text)


def locate(text: str, needle: str, start: int, occurrence: int) -> int:
    """LOCATE with a start (negative: backwards) and an occurrence."""
    if not needle:
        return 0
    backwards = start < 0
    at = len(text) + start + 1 if backwards else max(start - 1, 0)
    for _ in range(occurrence):
        at = text.rfind(needle, 0, at + len(needle) - 1) if backwards else text.find(needle, at)
        if at < 0:
            return 0
        found = at
        at = at if backwards else at + 1
    return found + 1


def regex_locate(pattern: str, text: str, start: int, occurrence: int, group: int) -> int:
    """LOCATE_REGEXPR: where the n-th match begins, from 1; 0 when there is none."""
    for number, found in enumerate(re.compile(pattern).finditer(text, max(start - 1, 0)), 1):
        if number == occurrence:
            return found.start(group) + 1
    return 0


def contains(text: str, query: str) -> bool:
    """Whether every word of the query is a word of the text, without regard to case.

    A substitute for full-text search: no stemming, no fuzziness. `*` stands for the rest of a word, and a phrase
    in double quotes for its words in this order.
    """
    words = _WORDS.findall(text.lower())
    lowered = query.lower()
    phrases = re.findall(r'"([^"]*)"', lowered)
    joined = " " + " ".join(words) + " "
    for phrase in phrases:
        if f" {' '.join(_WORDS.findall(phrase))} " not in joined:
            return False
    rest = re.sub(r'"[^"]*"', " ", lowered)
    have = set(words)
    for term in re.findall(r"[\w*%]+", rest):
        if "*" in term or "%" in term:
            pattern = re.compile(re.escape(term).replace(r"\*", ".*").replace("%", ".*"))
            if not any(pattern.fullmatch(word) for word in have):
                return False
        elif term not in have:
            return False
    return bool(rest.strip() or phrases)


def multiply(left: Decimal, right: Decimal) -> Decimal:
    """A product with 12 digits after the point."""
    return _bounded(_CONTEXT.multiply(left, right))


def divide(left: Decimal, right: Decimal) -> Decimal:
    """A quotient with 12 digits after the point."""
    if right == 0:
        raise _fail(304, "division by zero undefined: the right-hand value of the division is zero")
    return _bounded(_CONTEXT.divide(left, right))


def divide_long(left: str, right: str) -> Decimal:
    """As `divide`, of numbers that a floating decimal is not stored with all digits of."""
    return divide(Decimal(left), Decimal(right))


def _bounded(value: Decimal) -> Decimal:
    if abs(value) >= Decimal(10) ** 26:
        raise _fail(314, f"numeric overflow: {value}")
    return value.quantize(Decimal("0.000000000001"), context=_CONTEXT)


def half(vector: list[float]) -> list[float]:
    """Every number rounded to half precision."""
    with np.errstate(over="ignore"):
        rounded = np.array(vector, dtype=np.float32).astype(np.float16)
    if not np.isfinite(rounded).all():
        raise _fail(314, "numeric overflow: too large for HALF_VECTOR")
    return [float(value) for value in rounded]


def fvecs(data: bytes, as_half: bool) -> list[float]:
    """The vector in fvecs bytes."""
    count = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if not count or len(data) not in {4 + 4 * count, 4 + 2 * count}:
        raise _fail(339, "invalid number: the bytes are not a vector (fvecs)")
    found = np.frombuffer(data, dtype="<f4" if len(data) == 4 + 4 * count else "<f2", offset=4)
    return half(found.tolist()) if as_half else found.astype(np.float32).tolist()


def injection_safe(text: str, tokens: int) -> int:
    """IS_SQL_INJECTION_SAFE: 1 when the text is at most so many plain words, comments and quotes apart."""
    if "--" in text or "/*" in text or text.count('"') % 2 or text.count("'") % 2:
        return 0
    words = re.findall(r'"[^"]*"|\'[^\']*\'|[\w$#.]+|\S', text)
    return int(len(words) <= tokens)


def register(
    connection: duckdb.DuckDBPyConnection,
    embedding: EmbeddingFunction,
    cross_encode: CrossEncodeFunction,
    routine: Callable[[int, list[str | None]], str | None],
) -> None:
    """Make all of them known to the database."""

    def embed(text: str, kind: str, model: str) -> list[float]:
        if kind.upper() not in {"DOCUMENT", "QUERY"}:
            raise _fail(339, f"VECTOR_EMBEDDING: text type must be DOCUMENT or QUERY, not {kind}")
        found = find_model(model, "EMBEDDING")
        if found is None:
            raise _fail(2048, f"VECTOR_EMBEDDING: unknown model {model}; known: {model_names('EMBEDDING')}")
        vector = embedding([text], kind.upper())[0]
        if found.halved:
            vector = vector[: len(vector) // 2]
            vector = vector / (np.linalg.norm(vector) or 1.0)
        return [float(value) for value in vector]

    def cross(text: str, query: str, model: str) -> float:
        if find_model(model, "CROSS_ENCODER") is None:
            raise _fail(2048, f"CROSS_ENCODE: unknown model {model}; known: {model_names('CROSS_ENCODER')}")
        return cross_encode(text, query)

    decimals = "DECIMAL(38, 12)"
    functions: tuple[tuple[str, Callable[..., object], list[str], str], ...] = (
        ("hana_initcap", initcap, ["VARCHAR"], "VARCHAR"),
        ("hana_locate", locate, ["VARCHAR", "VARCHAR", "INTEGER", "INTEGER"], "INTEGER"),
        ("hana_regex_locate", regex_locate, ["VARCHAR", "VARCHAR", "INTEGER", "INTEGER", "INTEGER"], "INTEGER"),
        ("hana_contains", contains, ["VARCHAR", "VARCHAR"], "BOOLEAN"),
        ("hana_multiply", multiply, [decimals, decimals], decimals),
        ("hana_divide", divide, [decimals, decimals], decimals),
        ("hana_divide_long", divide_long, ["VARCHAR", "VARCHAR"], decimals),
        ("hana_half", half, ["FLOAT[]"], "FLOAT[]"),
        ("hana_fvecs", fvecs, ["BLOB", "BOOLEAN"], "FLOAT[]"),
        ("hana_injection_safe", injection_safe, ["VARCHAR", "INTEGER"], "INTEGER"),
        ("hana_embed", embed, ["VARCHAR", "VARCHAR", "VARCHAR"], "FLOAT[]"),
        ("hana_cross", cross, ["VARCHAR", "VARCHAR", "VARCHAR"], "DOUBLE"),
    )
    connection.create_function(
        "hana_routine", routine, ["BIGINT", "VARCHAR[]"], "VARCHAR", type=NATIVE, null_handling=SPECIAL
    )
    for name, function, parameters, result in functions:
        connection.create_function(name, function, list(parameters), result, type=NATIVE)

"""HANA's functions: how each is typed and written in DuckDB SQL.

Most are lines of a table: the kinds of the arguments, the type of the result and a template. The kinds: `s`
text, `n` number, `d` DOUBLE, `i` INTEGER, `D` DATE, `T` TIMESTAMP, `t` TIME, `v` vector, `x` anything; `?` makes
the rest optional, `*` repeats the last one. A result `0` means: the type of the first argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import raising
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.translation.conversions import cast, concatenated, convert, to_number
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    INTEGER,
    NCLOB,
    REAL,
    TIME,
    TIMESTAMP,
    nvarchar,
)

if TYPE_CHECKING:
    from hana_ai.api.local.hana.translation.expressions import ExpressionBinder

Handler = Callable[["ExpressionBinder", Sequence[exp.Expr], Scope], Bound]

FUNCTIONS: dict[str, Handler] = {}
AGGREGATES: dict[str, Handler] = {}
NILADIC: dict[str, Handler] = {}

_KINDS: dict[str, SqlType] = {
    "s": nvarchar(),
    "d": DOUBLE,
    "i": INTEGER,
    "b": BIGINT,
    "D": DATE,
    "T": TIMESTAMP,
    "t": TIME,
    "v": types.vector(),
    "B": BOOLEAN,
    "y": types.BLOB,
}


def wrong_arguments(name: str) -> HanaError:
    """316, HANA's error for a wrong number of arguments."""
    return HanaError(316, f"wrong number or types of parameters in call: {name}")


def argument(binder: ExpressionBinder, node: exp.Expr, kind: str, scope: Scope) -> Bound:
    """Bind one argument to the kind that a signature asks for."""
    bound = binder.bind(node, scope)
    if kind == "x":
        return bound
    if kind == "n":
        return binder.coerce(bound, DECIMAL) if bound.type is None else to_number(bound)
    if kind == "v":
        return vector_argument(binder, bound)
    if kind == "y" and types.is_string(bound.type):
        return convert(bound, types.BLOB)
    return binder.coerce(bound, _KINDS[kind])


def vector_argument(binder: ExpressionBinder, bound: Bound) -> Bound:
    """A vector; a parameter becomes one, text does not without TO_REAL_VECTOR."""
    if bound.type is None:
        return binder.coerce(bound, types.vector())
    if not types.is_vector(bound.type):
        raise HanaError(266, f"inconsistent datatype: {bound.type.name} is not a vector")
    return bound


def bind_arguments(
    binder: ExpressionBinder, name: str, signature: str, nodes: Sequence[exp.Expr], scope: Scope
) -> list[Bound]:
    """Bind all arguments to a signature."""
    required, _, optional = signature.partition("?")
    repeated = required.endswith("*")
    kinds = required.rstrip("*")
    if repeated and len(nodes) > len(kinds):
        kinds += kinds[-1] * (len(nodes) - len(kinds))
    if not len(kinds) <= len(nodes) <= len(kinds + optional):
        raise wrong_arguments(name)
    return [argument(binder, node, kind, scope) for node, kind in zip(nodes, kinds + optional, strict=False)]


def define(name: str, signature: str, result: SqlType | str | None, *templates: str) -> None:
    """Add a function; with several templates, the one for the number of optional arguments that are there."""

    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        bounds = bind_arguments(binder, name, signature, nodes, scope)
        least = len(signature.partition("?")[0].rstrip("*"))
        chosen = templates[min(len(bounds) - least, len(templates) - 1)]
        kind = bounds[int(result)].type if isinstance(result, str) else result
        sql = chosen.format(*(bound.sql for bound in bounds), all=", ".join(bound.sql for bound in bounds))
        return Bound(sql, kind, True if not bounds else any(bound.nullable for bound in bounds))

    for alias in name.split():
        FUNCTIONS[alias] = handler


def function(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler written in Python."""

    def register(handler: Handler) -> Handler:
        for name in names:
            FUNCTIONS[name] = handler
        return handler

    return register


def _finite(sql: str) -> str:
    problem = raising(314, "numeric overflow")
    return f"(CASE WHEN isfinite({sql}) THEN {sql} WHEN {sql} IS NULL THEN NULL ELSE {problem} END)"


_INVALID = raising(2, "general error: invalid argument")


# --- text ---
define("UPPER UCASE", "s", "0", "upper({0})")
define("LOWER LCASE", "s", "0", "lower({0})")
define("INITCAP", "s", "0", "hana_initcap({0})")
define("LENGTH", "s", INTEGER, "length({0})")
define("LTRIM", "s?s", "0", "ltrim({0}, ' ')", "ltrim({0}, {1})")
define("RTRIM", "s?s", "0", "rtrim({0}, ' ')", "rtrim({0}, {1})")
define("LEFT", "si", "0", "left({0}, greatest({1}, 0))")
define("RIGHT", "si", "0", "right({0}, greatest({1}, 0))")
define("REVERSE", "s", "0", "reverse({0})")
define("REPLACE", "sss", nvarchar(), "replace({0}, {1}, {2})")
define("TRANSLATE", "sss", nvarchar(), "translate({0}, {1}, {2})")
define("ASCII", "s", INTEGER, "ascii({0})")
define("UNICODE", "s", INTEGER, "unicode({0})")
define("CHAR NCHAR", "i", nvarchar(1), "chr({0})")
define("REPEAT", "si", nvarchar(), "repeat({0}, {1})")
define("HAMMING_DISTANCE", "ss", INTEGER,
       "(CASE WHEN length({0}) <> length({1}) THEN -1 ELSE hamming({0}, {1}) END)")  # fmt: skip
define("LEVENSHTEIN_DISTANCE", "ss", INTEGER, "levenshtein({0}, {1})")
define("SUBSTR_BEFORE SUBSTRING_BEFORE", "ss", "0",
       "(CASE WHEN instr({0}, {1}) > 0 THEN left({0}, instr({0}, {1}) - 1) ELSE '' END)")  # fmt: skip
define("SUBSTR_AFTER SUBSTRING_AFTER", "ss", "0",
       "(CASE WHEN instr({0}, {1}) > 0 THEN substr({0}, instr({0}, {1}) + length({1})) ELSE '' END)")  # fmt: skip
define("HASH_MD5", "y", types.varbinary(16), "unhex(md5({0}))")
define("HASH_SHA256", "y", types.varbinary(32), "unhex(sha256({0}))")
define("BINTOHEX", "y", nvarchar(), "hex({0})")
define("BINTOSTR BINTONSTR", "y", nvarchar(), "decode({0})")
define("HEXTOBIN", "s", types.varbinary(), "unhex({0})")
define("STRTOBIN", "s?s", types.varbinary(), "encode({0})")
define("ESCAPE_SINGLE_QUOTES", "s", nvarchar(), "replace({0}, '''', '''''')")
define("ESCAPE_DOUBLE_QUOTES", "s", nvarchar(), "replace({0}, '\"', '\"\"')")
define("IS_SQL_INJECTION_SAFE", "s?i", INTEGER, "hana_injection_safe({0}, 1)", "hana_injection_safe({0}, {1})")
define("SYSUUID NEWUID", "", types.varbinary(16), "unhex(replace(CAST(uuid() AS VARCHAR), '-', ''))")


@function("SUBSTRING", "SUBSTR")
def _substring(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    bounds = bind_arguments(binder, "SUBSTRING", "si?i", nodes, scope)
    text, start = bounds[0], f"greatest({bounds[1].sql}, 1)"
    if len(bounds) == 2:
        return text.with_sql(f"substr({text.sql}, {start})")
    return text.with_sql(f"substr({text.sql}, {start}, greatest({bounds[2].sql}, 0))")


def _pad(name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        bounds = bind_arguments(binder, name, "si?s", nodes, scope)
        mark = bounds[2].sql if len(bounds) > 2 else "' '"
        return Bound(f"{name.lower()}({bounds[0].sql}, {bounds[1].sql}, {mark})", nvarchar())

    return handler


FUNCTIONS["LPAD"], FUNCTIONS["RPAD"] = _pad("LPAD"), _pad("RPAD")


@function("CONCAT", "CONCAT_NAZ")
def _concat(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    bounds = bind_arguments(binder, "CONCAT", "ss*", nodes, scope)
    joined = " || ".join(bound.sql for bound in bounds)
    return Bound(f"({joined})", concatenated([bound.type for bound in bounds]))


@function("LOCATE")
def _locate(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    bounds = bind_arguments(binder, "LOCATE", "ss?ii", nodes, scope)
    text, needle = bounds[0].sql, bounds[1].sql
    if len(bounds) == 2:
        return Bound(f"CAST(instr({text}, {needle}) AS INTEGER)", INTEGER, exact=True)
    occurrence = bounds[3].sql if len(bounds) == 4 else "1"
    return Bound(f"hana_locate({text}, {needle}, {bounds[2].sql}, {occurrence})", INTEGER, exact=True)


# --- numbers ---
define(
    "SQRT",
    "d",
    DOUBLE,
    f"(CASE WHEN {{0}} < 0 THEN {raising(2, 'general error: invalid argument')} ELSE sqrt({{0}}) END)",
)
define(
    "LN",
    "d",
    DOUBLE,
    f"(CASE WHEN {{0}} <= 0 THEN {raising(2, 'general error: invalid argument')} ELSE ln({{0}}) END)",
)
define("EXP", "d", DOUBLE, _finite("exp({0})"))
define("POWER", "dd", DOUBLE, _finite("pow({0}, {1})"))
for _name in ("SIN", "COS", "TAN", "ASIN", "ACOS", "ATAN", "SINH", "COSH", "TANH", "COT"):
    define(_name, "d", DOUBLE, f"{_name.lower()}({{0}})")
define("ATAN2", "dd", DOUBLE, "atan2({0}, {1})")
define("LOG", "dd", DOUBLE, "(ln({1}) / ln({0}))")
define("RAND RAND_SECURE", "", DOUBLE, "random()")
define("SIGN", "n", INTEGER, "CAST(sign({0}) AS INTEGER)")
define("UMINUS", "n", "0", "(-{0})")
define("BITAND", "bb*", BIGINT, "({0} & {1})")
define("BITOR", "bb*", BIGINT, "({0} | {1})")
define("BITXOR", "bb*", BIGINT, "xor({0}, {1})")
define("BITNOT", "b", BIGINT, "(~{0})")
define("BITCOUNT", "b", INTEGER, "CAST(bit_count({0}) AS INTEGER)")
define("ABS", "n", "0", "abs({0})")


def _whole(name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        (bound,) = bind_arguments(binder, name, "n", nodes, scope)
        if bound.type is not None and bound.type.code in types.INTEGERS:
            return bound
        return Bound(f"{name}({bound.sql})", bound.type, bound.nullable)

    return handler


FUNCTIONS["CEIL"] = FUNCTIONS["CEILING"] = _whole("ceil")
FUNCTIONS["FLOOR"] = _whole("floor")


@function("ROUND")
def _round(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) > 2:
        raise HanaError(7, "feature not supported by the loopback server: rounding modes")
    bounds = bind_arguments(binder, "ROUND", "n?i", nodes, scope)
    places = bounds[1].sql if len(bounds) > 1 else "0"
    value = bounds[0]
    if value.type is not None and value.type.code in types.FLOATS:
        return Bound(f"round({value.sql}, {places})", value.type, value.nullable)
    kind = value.type
    return Bound(f"CAST(round({value.sql}, {places}) AS {types.storage(kind or DECIMAL)})", kind, value.nullable)


@function("MOD")
def _mod(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    left, right = bind_arguments(binder, "MOD", "nn", nodes, scope)
    kind = types.common(left.type, right.type)
    sql = f"(CASE WHEN {right.sql} = 0 THEN {left.sql} ELSE {left.sql} % {right.sql} END)"
    return Bound(sql, kind, left.nullable or right.nullable)


@function("NDIV0")
def _ndiv0(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    left, right = bind_arguments(binder, "NDIV0", "nn", nodes, scope)
    divided = f"CAST({left.sql} AS DOUBLE) / CAST({right.sql} AS DOUBLE)"
    return Bound(f"(CASE WHEN {right.sql} = 0 THEN 0 ELSE {divided} END)", DOUBLE)


def _extreme(name: str, operator: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not nodes:
            raise wrong_arguments(name)
        bounds, kind = binder.unify(*(binder.bind(node, scope) for node in nodes))
        result = bounds[0].sql
        for bound in bounds[1:]:
            # NULL wins in HANA; DuckDB's own functions skip it.
            result = (
                f"(CASE WHEN {result} IS NULL OR {bound.sql} IS NULL THEN NULL "
                f"WHEN {result} {operator} {bound.sql} THEN {result} ELSE {bound.sql} END)"
            )
        return Bound(result, kind)

    return handler


FUNCTIONS["GREATEST"], FUNCTIONS["LEAST"] = _extreme("GREATEST", ">="), _extreme("LEAST", "<=")


# --- NULL and choice ---
@function("IFNULL", "COALESCE", "NVL")
def _coalesce(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) < 2:
        raise wrong_arguments("COALESCE")
    bounds, kind = binder.unify(*(binder.bind(node, scope) for node in nodes))
    joined = ", ".join(bound.sql for bound in bounds)
    return Bound(f"coalesce({joined})", kind, all(bound.nullable for bound in bounds))


@function("NULLIF")
def _nullif(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) != 2:
        raise wrong_arguments("NULLIF")
    first = binder.bind(nodes[0], scope)
    left, right = binder.comparable(first, binder.bind(nodes[1], scope))
    return Bound(f"(CASE WHEN {left.sql} = {right.sql} THEN NULL ELSE {first.sql} END)", first.type)


@function("MAP", "DECODE")
def _map(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) < 3:
        raise wrong_arguments("MAP")
    subject = binder.bind(nodes[0], scope)
    rest = list(nodes[1:])
    default = binder.bind(rest.pop(), scope) if len(rest) % 2 else Bound("NULL", None)
    keys = [binder.bind(node, scope) for node in rest[::2]]
    values, kind = binder.unify(*(binder.bind(node, scope) for node in rest[1::2]), default)
    branches = []
    for key, value in zip(keys, values, strict=False):
        left, right = binder.comparable(subject, key)
        # MAP(NULL, NULL, x) matches.
        branches.append(f"WHEN {left.sql} IS NOT DISTINCT FROM {right.sql} THEN {value.sql}")
    return Bound(f"(CASE {' '.join(branches)} ELSE {values[-1].sql} END)", kind)


# --- conversion ---
def _conversion(target: SqlType | None, name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if len(nodes) != 1 or target is None:
            raise wrong_arguments(name)
        return cast(binder, binder.bind(nodes[0], scope), target)

    return handler


for _name, _type in {
    "TO_DOUBLE": DOUBLE, "TO_REAL": REAL, "TO_INTEGER": INTEGER, "TO_INT": INTEGER, "TO_BIGINT": BIGINT,
    "TO_SMALLINT": types.SMALLINT, "TO_TINYINT": types.TINYINT, "TO_BOOLEAN": BOOLEAN, "TO_SMALLDECIMAL": DECIMAL,
    "TO_CLOB": types.CLOB, "TO_NCLOB": NCLOB, "TO_BLOB": types.BLOB, "TO_BINARY": types.varbinary(),
    "TO_VARBINARY": types.varbinary(), "TO_TIME": TIME,
}.items():  # fmt: skip
    FUNCTIONS[_name] = _conversion(_type, _name)


def literal_number(node: exp.Expr) -> int:
    """A whole number written in the SQL text."""
    if isinstance(node, exp.Literal) and not node.args.get("is_string"):
        return int(node.this)
    raise HanaError(7, "feature not supported by the loopback server: a size that is no constant")


@function("TO_DECIMAL")
def _to_decimal(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if not 1 <= len(nodes) <= 3:
        raise wrong_arguments("TO_DECIMAL")
    sizes = [literal_number(node) for node in nodes[1:]]
    return cast(binder, binder.bind(nodes[0], scope), types.decimal(*sizes) if sizes else DECIMAL)


def constant_text(node: exp.Expr) -> str:
    """A text written in the SQL text."""
    if isinstance(node, exp.Literal) and node.args.get("is_string"):
        return str(node.this)
    raise HanaError(7, "feature not supported by the loopback server: a format that is no constant")

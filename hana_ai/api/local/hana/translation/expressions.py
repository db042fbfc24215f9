"""Translate HANA expressions into DuckDB SQL while inferring their HANA types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, ClassVar

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import syntax, unknown_column, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.language.unsupported import REFUSED_FUNCTIONS
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation import conversions
from hana_ai.api.local.hana.translation.functions import AGGREGATES, FUNCTIONS, NILADIC
from hana_ai.api.local.hana.translation.scope import AGGREGATE_END, Bound, BoundQuery, Parameters, Scope
from hana_ai.api.local.hana.types import BIGINT, BOOLEAN, DECIMAL, DOUBLE, INTEGER

_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
_ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/"}


def name_of(identifier: exp.Expr) -> str:
    """The HANA name of an identifier: folded unless quoted."""
    text = str(identifier.this)
    return text if identifier.args.get("quoted") else text.upper()


def position_of(node: exp.Expr) -> int:
    """Where the node's first name stands, in characters from 1; 0 when unknown."""
    for part in (node, *node.find_all(exp.Identifier)):
        start = part.meta.get("start")
        if start is not None:
            return int(start) + 1
    return 0


def function_name(node: exp.Anonymous) -> str:
    """The name of a call, folded."""
    this = node.this
    return name_of(this) if isinstance(this, exp.Identifier) else str(this).upper()


class ExpressionBinder:
    """The expression half of the binder; `queries.Binder` adds the query half."""

    parameters: Parameters

    def bind_query(self, node: exp.Expr, scope: Scope | None) -> BoundQuery:
        raise NotImplementedError

    def next_value(self, schema: str | None, name: str, current: bool, position: int) -> Bound | None:
        raise NotImplementedError

    def bind(self, node: exp.Expr | None, scope: Scope) -> Bound:
        """Translate one expression."""
        if node is None:
            raise syntax("end of statement")
        handler = self._handlers.get(type(node))
        if handler is None:
            raise syntax(f'"{node.key}"', position_of(node))
        return handler(self, node, scope)

    def condition(self, node: exp.Expr, scope: Scope) -> str:
        """Translate a predicate."""
        bound = self.bind(node, scope)
        if bound.type is None:
            bound = self.coerce(bound, BOOLEAN)
        if bound.type is not None and bound.type.code != TypeCode.BOOLEAN:
            raise syntax("a value where a condition is expected", position_of(node))
        return bound.sql

    def coerce(self, bound: Bound, target: SqlType) -> Bound:
        """Convert to a type as HANA does implicitly; a parameter takes the type."""
        if bound.parameter is not None:
            index = bound.parameter
            if self.parameters.types[index] is None:
                self.parameters.types[index] = target
                sql = f"CAST({self.parameters.reference(index)} AS {types.storage(target)})"
                return Bound(sql, target, True, exact=True)
        return conversions.convert(bound, target)

    def unify(self, *bounds: Bound) -> tuple[list[Bound], SqlType | None]:
        """Convert all to the type that can hold each."""
        kind: SqlType | None = None
        for bound in bounds:
            kind = types.common(kind, bound.type)
        if kind is None:
            return list(bounds), None
        return [self.coerce(bound, kind) for bound in bounds], kind

    # --- leaves ---
    def _literal(self, node: exp.Expr, scope: Scope) -> Bound:
        text = str(node.this)
        if node.args.get("is_string"):
            return Bound(literal(text), types.nvarchar(max(1, conversions.utf16_length(text))), False, exact=True,
                         text=text, literal=True)  # fmt: skip
        if "e" in text.lower():
            if math.isinf(float(text)):
                raise HanaError(314, f"numeric overflow: {text}")
            return Bound(f"CAST({text} AS DOUBLE)", DOUBLE, False, exact=True, literal=True)
        if "." in text:
            whole, _, fraction = text.partition(".")
            precision = len(whole.lstrip("0")) + len(fraction)
            if precision > 38:
                raise HanaError(314, f"numeric overflow: {text}")
            return Bound(text, types.decimal(max(precision, 1), len(fraction)), False, literal=True)
        value = int(text)
        if value < 2**31:
            return Bound(text, INTEGER, False, exact=True, literal=True)
        if value < 2**63:
            return Bound(text, BIGINT, False, exact=True, literal=True)
        if len(text) > 38:
            raise HanaError(314, f"numeric overflow: {text}")
        return Bound(f"CAST({text} AS DECIMAL({len(text)}, 0))", types.decimal(len(text)), False, literal=True)

    def _hex(self, node: exp.Expr, scope: Scope) -> Bound:
        text = str(node.this)
        if len(text) % 2 or not re.fullmatch(r"[0-9A-Fa-f]*", text):
            raise HanaError(257, f"sql syntax error: invalid hexadecimal literal {text}")
        return Bound(f"unhex('{text}')", types.varbinary(max(1, len(text) // 2)), False, exact=True)

    def _null(self, node: exp.Expr, scope: Scope) -> Bound:
        return Bound("NULL", None)

    def _boolean(self, node: exp.Expr, scope: Scope) -> Bound:
        return Bound("TRUE" if node.this else "FALSE", BOOLEAN, False, exact=True)

    def _placeholder(self, node: exp.Expr, scope: Scope) -> Bound:
        index = self.parameters.positions[str(node.this)]
        known = self.parameters.types[index]
        reference = self.parameters.reference(index)
        if known is not None:
            return Bound(f"CAST({reference} AS {types.storage(known)})", known, parameter=index, exact=True)
        return Bound(f"CAST({reference} AS VARCHAR)", None, parameter=index)

    def _column(self, node: exp.Expr, scope: Scope) -> Bound:
        identifier = node.this
        if isinstance(identifier, exp.Star):
            raise syntax('"*"', position_of(node))
        if node.args.get("catalog"):
            raise unknown_column(name_of(identifier), position_of(node))
        name = name_of(identifier)
        table = name_of(node.args["table"]) if node.args.get("table") else None
        schema = name_of(node.args["db"]) if node.args.get("db") else None
        position = position_of(node)
        if table is not None and name in {"NEXTVAL", "CURRVAL"} and not identifier.args.get("quoted"):
            value = self.next_value(schema, table, name == "CURRVAL", position)
            if value is not None:
                return value
        if table is None and name in scope.outputs and not any(name in item.by_name for item in scope.relations):
            return scope.outputs[name]
        found = scope.column(name, table, schema, position)
        if found is not None:
            return found
        if table is None and not identifier.args.get("quoted"):
            niladic = NILADIC.get(name)
            if niladic is not None:
                return niladic(self, [], scope)
        raise unknown_column(f"{table}.{name}" if table else name, position)

    # --- operators ---
    def _paren(self, node: exp.Expr, scope: Scope) -> Bound:
        inner = self.bind(node.this, scope)
        if inner.parameter is not None:
            return inner
        return Bound(f"({inner.sql})", inner.type, inner.nullable, exact=inner.exact, text=inner.text,
                     literal=inner.literal)  # fmt: skip

    def _negative(self, node: exp.Expr, scope: Scope) -> Bound:
        inner = self.bind(node.this, scope)
        if inner.type is None:
            inner = self.coerce(inner, DECIMAL)
        inner = conversions.to_number(inner)
        if inner.type == types.TINYINT:
            inner = self.coerce(inner, types.SMALLINT)
        if inner.literal and inner.type is not None and inner.type.length == 19 and inner.sql == "2147483648":
            return Bound("(-2147483648)", INTEGER, False, exact=True, literal=True)
        return Bound(f"(-{inner.sql})", inner.type, inner.nullable, literal=inner.literal)

    def _and_or(self, node: exp.Expr, scope: Scope) -> Bound:
        word = "AND" if isinstance(node, exp.And) else "OR"
        # Long chains (SQL that programs write) would nest as deep as they are long.
        parts: list[exp.Expr] = []
        stack = [node]
        while stack:
            current = stack.pop()
            if type(current) is type(node):
                stack += [current.expression, current.this]
            else:
                parts.append(current)
        joined = f" {word} ".join(self.condition(part, scope) for part in parts)
        return Bound(f"({joined})", BOOLEAN)

    def _not(self, node: exp.Expr, scope: Scope) -> Bound:
        return Bound(f"(NOT {self.condition(node.this, scope)})", BOOLEAN)

    def _comparison(self, node: exp.Expr, scope: Scope) -> Bound:
        operator = _COMPARISONS[type(node)]
        right_node = node.expression
        if isinstance(right_node, exp.Any | exp.All):
            return self._quantified(node, operator, right_node, scope)
        if isinstance(node.this, exp.Tuple) or isinstance(right_node, exp.Tuple):
            return self._row_comparison(node, operator, scope)
        left, right = self.comparable(self.bind(node.this, scope), self.bind(right_node, scope))
        return Bound(f"({left.sql} {operator} {right.sql})", BOOLEAN)

    def comparable(self, left: Bound, right: Bound) -> tuple[Bound, Bound]:
        """Bring two sides to one type for a comparison."""
        if left.type is not None and right.type is not None and left.type.code == right.type.code:
            return left, right
        if types.is_vector(left.type) or types.is_vector(right.type):
            raise HanaError(266, "inconsistent datatype: vectors cannot be compared")
        if types.is_string(left.type) and types.is_number(right.type):
            return self._number_beside(left, right), right
        if types.is_number(left.type) and types.is_string(right.type):
            return left, self._number_beside(right, left)
        (first, second), _ = self.unify(left, right)
        return first, second

    def _number_beside(self, text: Bound, number: Bound) -> Bound:
        floating = number.type is not None and number.type.code in types.FLOATS
        return self.coerce(text, DOUBLE if floating else DECIMAL)

    def _row_comparison(self, node: exp.Expr, operator: str, scope: Scope) -> Bound:
        left, right = node.this, node.expression
        if not (isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple)) or operator not in {"=", "<>"}:
            raise unsupported("comparing rows", position_of(node))
        if len(left.expressions) != len(right.expressions):
            raise HanaError(270, "not enough values: the rows have different lengths")
        parts = []
        for first, second in zip(left.expressions, right.expressions, strict=True):
            a, b = self.comparable(self.bind(first, scope), self.bind(second, scope))
            parts.append(f"({a.sql} = {b.sql})")
        joined = " AND ".join(parts)
        return Bound(f"({joined})" if operator == "=" else f"(NOT ({joined}))", BOOLEAN)

    def _quantified(self, node: exp.Expr, operator: str, quantifier: exp.Expr, scope: Scope) -> Bound:
        word = "ANY" if isinstance(quantifier, exp.Any) else "ALL"
        left = self.bind(node.this, scope)
        inner = quantifier.this
        if not isinstance(inner, exp.Query | exp.Subquery):
            raise unsupported(f"{word} with a list")
        query = self.bind_query(inner, scope)
        left = self._beside_query(left, query)
        return Bound(f"({left.sql} {operator} {word} ({query.sql}))", BOOLEAN)

    def _beside_query(self, left: Bound, query: BoundQuery) -> Bound:
        if len(query.columns) != 1:
            raise HanaError(269, "too many values: the subquery must give one column")
        kind = query.columns[0].type
        return left if kind is None or left.type == kind else self.coerce(left, kind)

    def _arithmetic(self, node: exp.Expr, scope: Scope) -> Bound:
        operator = _ARITHMETIC[type(node)]
        # Sums that programs write can be hundreds of terms long; follow the left side in a loop.
        chain: list[exp.Expr] = []
        while type(node) in _ARITHMETIC:
            chain.append(node)
            node = node.this
        left = self.bind(node, scope)
        for item in reversed(chain):
            operator = _ARITHMETIC[type(item)]
            left = conversions.arithmetic(self, operator, left, self.bind(item.expression, scope))
        return left

    def _concat(self, node: exp.Expr, scope: Scope) -> Bound:
        parts: list[Bound] = []
        current: exp.Expr = node
        stack: list[exp.Expr] = []
        while isinstance(current, exp.DPipe):
            stack.append(current.expression)
            current = current.this
        stack.append(current)
        for part in reversed(stack):
            bound = self.bind(part, scope)
            if types.is_vector(bound.type):
                raise HanaError(266, "inconsistent datatype: a vector cannot be concatenated")
            parts.append(self.coerce(bound, types.nvarchar()) if not types.is_string(bound.type) else bound)
        joined = " || ".join(part.sql for part in parts)
        return Bound(f"({joined})", conversions.concatenated([part.type for part in parts]))

    def _between(self, node: exp.Expr, scope: Scope) -> Bound:
        this = self.bind(node.this, scope)
        low, high = self.bind(node.args["low"], scope), self.bind(node.args["high"], scope)
        a, low = self.comparable(this, low)
        b, high = self.comparable(this, high)
        return Bound(f"({a.sql} >= {low.sql} AND {b.sql} <= {high.sql})", BOOLEAN)

    def _in(self, node: exp.Expr, scope: Scope) -> Bound:
        query = node.args.get("query")
        if query is not None:
            return self._in_query(node, query, scope)
        if isinstance(node.this, exp.Tuple):
            parts = [
                self._row_comparison(exp.EQ(this=node.this.copy(), expression=item.copy()), "=", scope).sql
                for item in node.expressions
            ]
            return Bound(f"({' OR '.join(parts)})", BOOLEAN)
        left = self.bind(node.this, scope)
        items = [self.bind(item, scope) for item in node.expressions]
        if not items:
            raise syntax('")"', position_of(node))
        pairs = [self.comparable(left, item) for item in items]
        if len({pair[0].sql for pair in pairs}) == 1:
            return Bound(f"({pairs[0][0].sql} IN ({', '.join(pair[1].sql for pair in pairs)}))", BOOLEAN)
        return Bound(f"({' OR '.join(f'{a.sql} = {b.sql}' for a, b in pairs)})", BOOLEAN)

    def _in_query(self, node: exp.Expr, query: exp.Expr, scope: Scope) -> Bound:
        bound = self.bind_query(query, scope)
        if isinstance(node.this, exp.Tuple):
            items = [self.bind(item, scope).sql for item in node.this.expressions]
            return Bound(f"(({', '.join(items)}) IN ({bound.sql}))", BOOLEAN)
        left = self._beside_query(self.bind(node.this, scope), bound)
        return Bound(f"({left.sql} IN ({bound.sql}))", BOOLEAN)

    def _is(self, node: exp.Expr, scope: Scope) -> Bound:
        if not isinstance(node.expression, exp.Null):
            raise syntax(f'"{node.expression.sql()}"', position_of(node))
        word = "IS NOT NULL" if node.args.get("negate") else "IS NULL"
        inner = self.bind(node.this, scope)
        return Bound(f"({inner.sql} {word})", BOOLEAN, False)

    def _like(self, node: exp.Expr, scope: Scope) -> Bound:
        escape = ""
        if isinstance(node, exp.Escape):
            escape = f" ESCAPE {self.coerce(self.bind(node.expression, scope), types.nvarchar()).sql}"
            node = node.this
        left = self.coerce(self.bind(node.this, scope), types.nvarchar())
        right = self.coerce(self.bind(node.expression, scope), types.nvarchar())
        word = "NOT LIKE" if node.args.get("negate") else "LIKE"
        return Bound(f"({left.sql} {word} {right.sql}{escape})", BOOLEAN)

    def _case(self, node: exp.Expr, scope: Scope) -> Bound:
        subject = self.bind(node.this, scope) if node.this else None
        conditions, results = [], []
        for branch in node.args["ifs"]:
            if subject is None:
                conditions.append(self.condition(branch.this, scope))
            else:
                left, right = self.comparable(subject, self.bind(branch.this, scope))
                conditions.append(f"{left.sql} = {right.sql}")
            results.append(self.bind(branch.args["true"], scope))
        default = node.args.get("default")
        results.append(self.bind(default, scope) if default is not None else Bound("NULL", None))
        results, kind = self.unify(*results)
        branches = " ".join(f"WHEN {c} THEN {r.sql}" for c, r in zip(conditions, results, strict=False))
        return Bound(f"(CASE {branches} ELSE {results[-1].sql} END)", kind, any(item.nullable for item in results))

    def _cast(self, node: exp.Expr, scope: Scope) -> Bound:
        return conversions.cast(self, self.bind(node.this, scope), node.args["to"])

    def _subquery(self, node: exp.Expr, scope: Scope) -> Bound:
        query = self.bind_query(node, scope)
        if len(query.columns) != 1:
            raise HanaError(269, "too many values: the subquery must give one column")
        return Bound(f"({query.sql})", query.columns[0].type, exact=True)

    def _exists(self, node: exp.Expr, scope: Scope) -> Bound:
        query = self.bind_query(node.this, scope)
        return Bound(f"EXISTS ({query.sql})", BOOLEAN, False)

    # --- calls ---
    def _call(self, node: exp.Expr, scope: Scope) -> Bound:
        assert isinstance(node, exp.Anonymous)
        name = function_name(node)
        refused = REFUSED_FUNCTIONS.get(name)
        if refused is not None:
            raise unsupported(refused, position_of(node))
        arguments = list(node.expressions)
        handler = FUNCTIONS.get(name)
        if handler is not None:
            return handler(self, arguments, scope)
        aggregate = AGGREGATES.get(name)
        if aggregate is not None:
            return aggregate(self, arguments, scope)
        niladic = NILADIC.get(name)
        if niladic is not None and not arguments:
            return niladic(self, [], scope)
        raise HanaError(328, f"invalid name of function or procedure: {name}", position_of(node))

    def _window(self, node: exp.Expr, scope: Scope) -> Bound:
        inner = node.this
        if isinstance(inner, exp.Anonymous) and function_name(inner) == "CROSS_ENCODE":
            # A window function by syntax only: each row is scored by itself.
            return self.bind(inner, scope)
        bound = self.bind(inner, scope)
        parts = []
        partition = node.args.get("partition_by") or []
        if partition:
            parts.append("PARTITION BY " + ", ".join(self.bind(item, scope).sql for item in partition))
        order = node.args.get("order")
        if order is not None:
            parts.append("ORDER BY " + self.order_items(order, scope))
        spec = node.args.get("spec")
        if spec is not None:
            parts.append(self._frame(spec, scope))
        over = f" OVER ({' '.join(parts)})"
        head, mark, tail = bound.sql.rpartition(AGGREGATE_END)
        if not mark:
            raise syntax('"OVER"', position_of(node))
        return Bound(head + over + tail, bound.type, bound.nullable)

    def _frame(self, spec: exp.Expr, scope: Scope) -> str:
        def side(value: Any, direction: Any) -> str:
            if isinstance(value, str):
                return f"{value} {direction}" if value == "UNBOUNDED" else value
            return f"{self.bind(value, scope).sql} {direction}"

        kind = spec.args["kind"]
        start = side(spec.args["start"], spec.args.get("start_side"))
        end = spec.args.get("end")
        if end is None:
            return f"{kind} {start}"
        return f"{kind} BETWEEN {start} AND {side(end, spec.args.get('end_side'))}"

    def order_items(self, order: exp.Expr, scope: Scope) -> str:
        """The items of an ORDER BY inside a call or a window."""
        return ", ".join(f"{self.bind(item.this, scope).sql}{direction(item)}" for item in order.expressions)

    def _within_group(self, node: exp.Expr, scope: Scope) -> Bound:
        inner = node.this
        name = function_name(inner) if isinstance(inner, exp.Anonymous) else ""
        if name not in {"PERCENTILE_CONT", "PERCENTILE_DISC"} or len(inner.expressions) != 1:
            raise unsupported(f"{name} WITHIN GROUP", position_of(node))
        fraction = self.coerce(self.bind(inner.expressions[0], scope), DOUBLE)
        item = node.expression.expressions[0]
        value = conversions.to_number(self.bind(item.this, scope))
        order = " DESC" if item.args.get("desc") else ""
        function = "quantile_cont" if name == "PERCENTILE_CONT" else "quantile_disc"
        if order:
            fraction = Bound(f"(1 - {fraction.sql})", DOUBLE)
        if name == "PERCENTILE_CONT":
            value = self.coerce(value, DOUBLE)
        return Bound(f"{function}({value.sql}, {fraction.sql}){AGGREGATE_END}", value.type)

    def _string_agg(self, node: exp.Expr, scope: Scope) -> Bound:
        distinct = isinstance(node.this, exp.Distinct)
        value = self.coerce(
            self.bind(node.this.expressions[0] if distinct else node.this, scope), types.nvarchar()
        )
        separator = node.args.get("separator")
        mark = self.bind(separator, scope).sql if separator is not None else "''"
        order = node.args.get("order")
        ordering = f" ORDER BY {self.order_items(order, scope)}" if order is not None else ""
        word = "DISTINCT " if distinct else ""
        return Bound(f"string_agg({word}{value.sql}, {mark}{ordering}){AGGREGATE_END}", types.nvarchar(5000))

    def _extract(self, node: exp.Expr, scope: Scope) -> Bound:
        part = node.args["part"]
        if part not in {"YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"}:
            raise syntax(f'"{part}"')
        return FUNCTIONS[part if part != "DAY" else "DAYOFMONTH"](self, [node.this], scope)

    def _trim(self, node: exp.Expr, scope: Scope) -> Bound:
        value = self.coerce(self.bind(node.this, scope), types.nvarchar())
        chars = (
            self.coerce(self.bind(node.args["chars"], scope), types.nvarchar()).sql
            if node.args.get("chars")
            else "' '"
        )
        function = {"BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}[node.args["side"]]
        return Bound(f"{function}({value.sql}, {chars})", value.type)

    def _special(self, node: exp.Expr, scope: Scope) -> Bound:
        return FUNCTIONS[f"<{type(node).__name__}>"](self, [node], scope)

    def _unsupported_node(self, node: exp.Expr, scope: Scope) -> Bound:
        raise unsupported("method calls and array access", position_of(node))

    _handlers: ClassVar[dict[type[exp.Expr], Callable[[Any, Any, Scope], Bound]]] = {
        exp.Literal: _literal,
        exp.National: lambda self, node, scope: self._literal(exp.Literal.string(str(node.this)), scope),
        exp.HexString: _hex,
        exp.Null: _null,
        exp.Boolean: _boolean,
        exp.Placeholder: _placeholder,
        exp.Column: _column,
        exp.Identifier: lambda self, node, scope: self._column(exp.Column(this=node.copy()), scope),
        exp.Paren: _paren,
        exp.Neg: _negative,
        exp.And: _and_or,
        exp.Or: _and_or,
        exp.Not: _not,
        **dict.fromkeys(_COMPARISONS, _comparison),
        **dict.fromkeys(_ARITHMETIC, _arithmetic),
        exp.DPipe: _concat,
        exp.Between: _between,
        exp.In: _in,
        exp.Is: _is,
        exp.Like: _like,
        exp.Escape: _like,
        exp.Case: _case,
        exp.Subquery: _subquery,
        exp.Select: _subquery,
        exp.Union: _subquery,
        exp.Exists: _exists,
        exp.Anonymous: _call,
        exp.Window: _window,
        exp.WithinGroup: _within_group,
        exp.Dot: _unsupported_node,
        exp.Bracket: _unsupported_node,
        nodes.TypedCast: _cast,
        nodes.StringAgg: _string_agg,
        nodes.ExtractPart: _extract,
        nodes.TrimChars: _trim,
        **dict.fromkeys((nodes.Regexpr, nodes.LikeRegexpr, nodes.JsonScalar, nodes.SearchScore), _special),
    }


def direction(item: exp.Expr) -> str:
    """DESC and the place of NULLs, always spelled out: HANA's default differs from DuckDB's."""
    descending = " DESC" if item.args.get("desc") else ""
    return f"{descending} NULLS {'FIRST' if item.args.get('nulls_first') else 'LAST'}"

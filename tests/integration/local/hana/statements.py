"""Random schemas, rows and statements that mean the same in HANA and in SQLite.

Both texts are made from one tree of sqlglot's. Where the databases differ by meaning, a rule says how and why:

- A quotient of integers is a decimal in HANA, an integer in SQLite (SQL reference of SAP HANA Cloud, "Operators";
  sqlite.org/lang_expr.html), and zero as divisor is error 304, not NULL: SQLite gets the quotient of REALs, and
  divisors are never zero.
- The remainder is the function MOD in HANA, the operator % in SQLite; both have the dividend's sign.
- LIKE heeds case in HANA; SQLite needs `PRAGMA case_sensitive_like` (sqlite.org/pragma.html). UPPER and LOWER
  know ASCII alone in SQLite (sqlite.org/lang_corefunc.html), so texts are ASCII.
- DECIMAL is exact in HANA, and a REAL in SQLite (sqlite.org/datatype3.html): decimals here are multiples of 0.25,
  whose sums and products a REAL holds exactly; what goes into a column has no more digits than the column.
  Numbers are compared after rounding to 5 digits, because HANA's AVG and quotients end after 6.
- An INTEGER that overflows is error 314 in HANA and wider in SQLite: numbers are small.
- A condition is no value in HANA: it stands only where a condition may.
- FROM cannot be left out in HANA, so every query has one.

An empty text is not NULL in either (HANA Cloud), and NULLs come first in ascending order in both.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from sqlglot import exp, select

INTEGER, DECIMAL, TEXT = "INTEGER", "DECIMAL(9, 2)", "NVARCHAR(20)"
_LETTERS = ["", "a", "A", "b", "ab", "B a", "abc", "z_", "100%"]


@dataclass
class Table:
    """A table and the rows that it begins with."""

    name: str
    columns: dict[str, str]
    rows: list[tuple[int | float | str | None, ...]] = field(default_factory=list)

    def hana(self) -> str:
        """CREATE TABLE for HANA."""
        return f"CREATE TABLE {self.name} ({', '.join(f'{name} {kind}' for name, kind in self.columns.items())})"

    def sqlite(self) -> str:
        """CREATE TABLE for SQLite."""
        kinds = {INTEGER: "INTEGER", DECIMAL: "REAL", TEXT: "TEXT"}
        return f"CREATE TABLE {self.name} ({', '.join(f'{n} {kinds[k]}' for n, k in self.columns.items())})"


@dataclass
class Statement:
    """A statement in both languages."""

    hana: str
    sqlite: str
    is_query: bool
    ordered: bool = False
    """Whether the order of the rows counts."""


class Generator:
    """Makes statements from a seed; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tables = [self._table(f"T{number}") for number in range(self.random.randint(2, 3))]
        self._aliases = 0
        self._filled: set[str] = set()
        self.stored = False
        """Whether what is made goes into columns, whose DECIMAL rounds to its scale."""

    def _table(self, name: str) -> Table:
        kinds = [INTEGER, TEXT, *self.random.choices([INTEGER, DECIMAL, TEXT], k=self.random.randint(1, 3))]
        table = Table(name, {f"C{number}": kind for number, kind in enumerate(kinds)})
        for _ in range(self.random.randint(0, 12)):
            table.rows.append(tuple(self.value(kind) for kind in kinds))
        return table

    def value(self, kind: str) -> int | float | str | None:
        """A value of a column."""
        if self.random.random() < 0.2:
            return None
        if kind == INTEGER:
            return self.random.randint(-9, 9)
        return self.random.randint(-20, 20) / 4 if kind == DECIMAL else self.random.choice(_LETTERS)

    # --- expressions ---
    def literal(self, kind: str) -> exp.Expression:
        """A literal."""
        value = self.value(kind)
        if value is None:
            return exp.Cast(this=exp.Null(), to=_CASTS[kind].copy())
        if isinstance(value, str):
            return exp.Literal.string(value)
        number = exp.Literal.number(f"{abs(value):.2f}" if kind == DECIMAL else str(abs(value)))
        return exp.Paren(this=exp.Neg(this=number)) if value < 0 else number

    def expression(self, kind: str, columns: list[tuple[str, str, str]], depth: int = 2) -> exp.Expression:
        """An expression over columns, given as alias, name and type."""
        fitting = [item for item in columns if item[2] == kind]
        roll = self.random.random()
        if depth == 0 or roll < 0.35:
            if fitting and roll < 0.3:
                alias, name, _ = self.random.choice(fitting)
                return exp.column(name, alias or None)
            return self.literal(kind)

        def part(other: str = kind) -> exp.Expression:
            return self.expression(other, columns, depth - 1)

        if roll < 0.45:
            return exp.Case(ifs=[exp.If(this=self.condition(columns, depth - 1), true=part())], default=part())
        if roll < 0.55:
            return exp.func(self.random.choice(["COALESCE", "NULLIF"]), part(), part())
        if kind == TEXT:
            choices = [
                lambda: exp.Paren(this=exp.DPipe(this=part(), expression=part())),
                lambda: exp.func("UPPER", part()),
                lambda: exp.func("LOWER", part()),
                lambda: exp.func("TRIM", part()),
                lambda: exp.func("REPLACE", part(), exp.Literal.string("a"), exp.Literal.string("xy")),
                lambda: exp.Anonymous(
                    this="SUBSTR", expressions=[part(), exp.Literal.number(1), exp.Literal.number(2)]
                ),
            ]
            return self.random.choice(choices)()
        if kind == INTEGER and roll < 0.7:
            if roll < 0.63:
                return exp.func("LENGTH", part(TEXT))
            return exp.Mod(this=exp.Paren(this=part()), expression=exp.Literal.number(self.random.randint(2, 5)))
        if roll < 0.75:
            return exp.func("ABS", part())
        # A product has more digits after the point than the column that it may go to.
        products = depth == 1 and not (self.stored and kind == DECIMAL)
        operation = self.random.choice([exp.Add, exp.Sub, *([exp.Mul] if products else [])])
        return exp.Paren(this=operation(this=part(), expression=part()))

    def condition(self, columns: list[tuple[str, str, str]], depth: int = 2) -> exp.Expression:
        """A condition."""
        roll = self.random.random()
        if depth and roll < 0.3:
            both = [self.condition(columns, depth - 1) for _ in range(2)]
            return exp.Paren(this=self.random.choice([exp.and_, exp.or_])(*both, copy=False))
        if depth and roll < 0.4:
            return exp.not_(exp.Paren(this=self.condition(columns, depth - 1)), copy=False)
        kind = self.random.choice([INTEGER, TEXT, DECIMAL])
        left = self.expression(kind, columns, min(depth, 1))
        if roll < 0.5:
            return exp.Is(this=left, expression=exp.Null())
        if roll < 0.6 and kind == TEXT:
            return exp.Like(this=left, expression=exp.Literal.string(self.random.choice(["a%", "%b%", "_", "%"])))
        if roll < 0.7:
            return exp.In(this=left, expressions=[self.literal(kind) for _ in range(2)])
        if roll < 0.75:
            return exp.Between(this=left, low=self.literal(kind), high=self.literal(kind))
        if roll < 0.85 and depth:
            return self._subquery(kind, left, columns)
        comparison = self.random.choice([exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE])
        return comparison(this=left, expression=self.expression(kind, columns, min(depth, 1)))

    def _subquery(self, kind: str, left: exp.Expression, columns: list[tuple[str, str, str]]) -> exp.Expression:
        table, alias = self.random.choice(self.tables), self.alias()
        inner = [(alias, name, other) for name, other in table.columns.items()]
        source = _aliased(table.name, alias)
        where = self.condition([*inner, *columns], 0)
        if self.random.random() < 0.5:
            return exp.Exists(
                this=select(exp.Literal.number(1)).from_(source, copy=False).where(where, copy=False)
            )
        return exp.In(
            this=left, query=exp.Subquery(this=select(self.expression(kind, inner, 1)).from_(source, copy=False))
        )

    def alias(self) -> str:
        """A new alias."""
        self._aliases += 1
        return f"A{self._aliases}"

    # --- statements ---
    def _source(self) -> tuple[exp.Select, list[tuple[str, str, str]]]:
        table, alias = self.random.choice(self.tables), self.alias()
        columns = [(alias, name, kind) for name, kind in table.columns.items()]
        query = select().from_(_aliased(table.name, alias), copy=False)
        if self.random.random() < 0.4:
            other, second = self.random.choice(self.tables), self.alias()
            columns += [(second, name, kind) for name, kind in other.columns.items()]
            query = query.join(
                _aliased(other.name, second),
                on=self.condition(columns, 1),
                join_type=self.random.choice(["inner", "left"]),
                copy=False,
            )
        return query, columns

    def query(self, kinds: list[str] | None = None) -> exp.Select:
        """A SELECT without ORDER BY."""
        query, columns = self._source()
        wanted = kinds or self.random.choices([INTEGER, DECIMAL, TEXT], k=self.random.randint(1, 3))
        if self.random.random() < 0.6:
            query = query.where(self.condition(columns), copy=False)
        if self.random.random() < 0.3:
            query = self._grouped(query, columns, wanted)
        else:
            items = [self.expression(kind, columns) for kind in wanted]
            if kinds is None and self.random.random() < 0.15:
                divisor = exp.Literal.number(self.random.randint(2, 7))
                items.append(
                    exp.Div(this=exp.Paren(this=self.expression(INTEGER, columns, 1)), expression=divisor)
                )
            if kinds is None and self.random.random() < 0.1:
                items.append(self._windowed(columns))
            query = query.select(*_labelled(items), copy=False)
            if self.random.random() < 0.15:
                query = query.distinct(copy=False)
        return query

    def _grouped(self, query: exp.Select, columns: list[tuple[str, str, str]], kinds: list[str]) -> exp.Select:
        alias, name, _ = self.random.choice(columns)
        key = exp.column(name, alias or None)
        items = []
        for kind in kinds:
            if kind == TEXT:
                items.append(exp.func(self.random.choice(["MIN", "MAX"]), self.expression(TEXT, columns, 1)))
            else:
                word = self.random.choice(["MIN", "MAX", "SUM"] if kind == DECIMAL else ["COUNT", "MIN", "SUM"])
                items.append(exp.func(word, self.expression(kind, columns, 1)))
        query = query.select(*_labelled(items), copy=False)
        query = query.group_by(key, copy=False)
        if self.random.random() < 0.4:
            query = query.having(
                exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1)), copy=False
            )
        return query

    def _windowed(self, columns: list[tuple[str, str, str]]) -> exp.Expression:
        alias, name, _ = self.random.choice(columns)
        call = self.random.choice(
            [exp.Count(this=exp.Star()), exp.func("SUM", self.expression(INTEGER, columns, 1))]
        )
        return exp.Window(this=call, partition_by=[exp.column(name, alias or None)])

    def statement(self) -> Statement:
        """A query or a change."""
        if self.random.random() < 0.2:
            return self._change()
        query: exp.Query = self.query()
        if self.random.random() < 0.15:
            kinds = self.random.choices([INTEGER, TEXT, DECIMAL], k=2)
            both = self.query(kinds), self.query(kinds)
            operation = self.random.choice([exp.union, exp.union, exp.except_, exp.intersect])
            distinct = True if operation is not exp.union else self.random.random() < 0.5
            query = operation(*both, distinct=distinct, copy=False)
            return _both(query, True)
        ordered = self.random.random() < 0.4
        if ordered:
            count = len(query.selects)
            order = [
                exp.Ordered(this=exp.Literal.number(number + 1), desc=descending, nulls_first=not descending)
                for number in range(count)
                for descending in [self.random.random() < 0.5]
            ]
            query.set("order", exp.Order(expressions=order))
            if self.random.random() < 0.5:
                query = query.limit(self.random.randint(0, 5), copy=False)
                query = query.offset(self.random.randint(0, 2), copy=False)
        return _both(query, True, ordered)

    def _change(self) -> Statement:
        self.stored = True
        try:
            return self._any_change()
        finally:
            self.stored = False

    def _any_change(self) -> Statement:
        table = self.random.choice(self.tables)
        columns = [("", name, kind) for name, kind in table.columns.items()]
        roll = self.random.random()
        if roll < 0.4:
            values = exp.Tuple(expressions=[self.expression(kind, [], 1) for _, _, kind in columns])
            rows: exp.Expression = exp.Values(expressions=[values])
            return _both(exp.Insert(this=_table(table.name), expression=rows), False)
        if roll < 0.5:
            rows = self.query([kind for _, _, kind in columns])
            if table.name in self._filled or rows.args.get("joins"):
                return self._any_change()
            # Once a table: tables that double with each statement would soon be too large.
            self._filled.add(table.name)
            return _both(exp.Insert(this=_table(table.name), expression=rows), False)
        where = exp.Where(this=self.condition(columns, 1))
        if roll < 0.75:
            return _both(exp.Delete(this=_table(table.name), where=where), False)
        _, name, kind = self.random.choice(columns)
        assigned = exp.EQ(this=exp.column(name), expression=self.small(kind, columns))
        return _both(exp.Update(this=_table(table.name), expressions=[assigned], where=where), False)

    def small(self, kind: str, columns: list[tuple[str, str, str]]) -> exp.Expression:
        """What a column can take again and again without growing."""
        found = self.expression(kind, columns, 1)
        if kind == TEXT:
            return exp.Anonymous(this="SUBSTR", expressions=[found, exp.Literal.number(1), exp.Literal.number(5)])
        if kind == INTEGER:
            return exp.Mod(this=exp.Paren(this=found), expression=exp.Literal.number(10))
        return self.literal(kind)


_CASTS = {
    kind: exp.DataType.build(name)
    for kind, name in ((INTEGER, "INT"), (DECIMAL, "DECIMAL(9, 2)"), (TEXT, "NVARCHAR(20)"))
}
_DOUBLE = exp.DataType.build("DOUBLE")


def _table(name: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(name))


def _aliased(table: str, alias: str) -> exp.Expression:
    return exp.alias_(_table(table), alias, table=True, copy=False)


def _labelled(items: list[exp.Expression]) -> list[exp.Expression]:
    return [exp.alias_(item, f"R{number}", copy=False) for number, item in enumerate(items)]


def _for_hana(tree: exp.Expression) -> exp.Expression:
    found = exp.Tuple(expressions=[tree])
    for node in reversed(list(found.find_all(exp.Mod))):
        node.replace(exp.Anonymous(this="MOD", expressions=[node.this, node.expression]))
    return found.expressions[0]


def _for_sqlite(tree: exp.Expression) -> exp.Expression:
    found = tree.copy()
    for node in found.find_all(exp.Div):
        node.set("this", exp.Cast(this=node.this.copy(), to=_DOUBLE.copy()))
    return found


def _both(tree: exp.Expression, is_query: bool, ordered: bool = False) -> Statement:
    sqlite = _for_sqlite(tree).sql(dialect="sqlite", copy=False)
    hana = _for_hana(tree).sql(copy=False)
    return Statement(hana, sqlite, is_query, ordered)

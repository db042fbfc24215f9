"""INSERT, UPDATE, DELETE, UPSERT and MERGE: translated into DuckDB statements that tell which rows they changed.

Every table has a hidden column `_rid`, a number that no other row of the database ever has. Defaults, identity
values and generated columns are computed by the statement itself, so that DuckDB's table needs none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import ColumnInfo, TableInfo
from hana_ai.api.local.hana.engine import arrow
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.errors import unknown_column
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.queries import Binder, quoted
from hana_ai.api.local.hana.translation.scope import AGGREGATE_END, Bound, OutColumn, Parameters, Relation, Scope

if TYPE_CHECKING:
    from hana_ai.api.local.hana.engine.connection import DuckDBSession

BY_RIDS = "_rid IN (SELECT unnest($rids))"


def clean(sql: str) -> str:
    """Generated SQL without the marks behind aggregates."""
    return sql.replace(AGGREGATE_END, "")


@dataclass(slots=True)
class Run:
    """One execution: the session and the values of the statement."""

    session: DuckDBSession
    parameters: Parameters
    values: dict[str, Any]
    count: int = 1
    batch: bool = False
    first: int = 0
    """The first row number of a batch."""
    compiled: dict[str, Any] = field(default_factory=dict)
    """Translations that the plan keeps between executions."""

    def execute(self, sql: str, **extra: Any) -> Any:
        """Run generated SQL with the values that it names."""
        text = clean(sql)
        return self.session.connection.execute(text, self.session.named(text, self.values, self.parameters, extra))

    def number(self, sql: str, **extra: Any) -> int:
        """Run generated SQL that answers with one number, such as how many rows it changed."""
        rows = self.execute(sql, **extra).fetchall()
        return int(rows[0][0]) if rows else 0


def expression_binder(environment: Environment, parameters: Parameters | None = None) -> Binder:
    """A binder for an expression of the catalog: a default, a check, a generated column."""
    return Binder(environment, parameters or Parameters({}))


def parse_expression(text: str) -> exp.Expr:
    """An expression kept in the catalog."""
    from hana_ai.api.local.hana.language.statements import parse

    statement, _ = parse(f"SELECT {text} FROM DUMMY")
    assert isinstance(statement, syntax.Query)
    found: exp.Expr = statement.query.expressions[0]
    return found


def default_value(binder: Binder, column: ColumnInfo) -> Bound:
    """What a column gets when nothing is given for it."""
    if column.identity and column.sequence:
        return Bound(
            f"CAST(nextval('{column.sequence}') AS {types.storage(column.type)})", column.type, exact=True
        )
    if column.default is not None:
        return assign(binder, binder.bind(parse_expression(column.default), Scope()), column.type, column.name)
    return Bound(f"CAST(NULL AS {types.storage(column.type)})", column.type, exact=True)


class Target:
    """The table of a change, with what its columns need."""

    def __init__(self, binder: Binder, table: TableInfo) -> None:
        self.binder = binder
        self.table = table

    def columns(self, names: Sequence[str], count: int | None) -> list[ColumnInfo]:
        """The columns that a statement writes, in its order."""
        writable = [column for column in self.table.columns if column.generated is None]
        if not names:
            if count is not None and count == len(writable) - 1:
                without = [column for column in writable if column.identity is None]
                if len(without) == count:
                    writable = without
            return writable
        found = []
        for name in names:
            column = self.table.column(name)
            if column is None:
                raise unknown_column(name)
            if column.generated is not None:
                raise HanaError(1031, f"GENERATED ALWAYS column cannot be changed: {name}")
            if column in found:
                raise HanaError(272, f"duplicate column name: {name}")
            found.append(column)
        return found

    def select(self, given: dict[str, str], source: str, rid: str) -> str:
        """A SELECT of complete rows: the given columns, defaults, generated columns and the row number."""
        items = []
        for column in self.table.columns:
            if column.generated is None:
                value = given.get(column.name) or clean(default_value(self.binder, column).sql)
                items.append(f"{value} AS {quoted(column)}")
        inner = f"SELECT {', '.join(items)}, {rid} AS _rid{source}"
        if all(column.generated is None for column in self.table.columns):
            return inner
        generated = {column.name: sql for column, sql in self.generated("g")}
        complete = ", ".join(
            f"{generated[column.name]} AS {quoted(column)}" if column.name in generated else f"g.{quoted(column)}"
            for column in self.table.columns
        )
        return f"SELECT {complete}, g._rid FROM ({inner}) AS g"

    def generated(self, alias: str, replaced: dict[str, str] | None = None) -> list[tuple[ColumnInfo, str]]:
        """Generated columns and their expressions over the columns of `alias`."""
        found = []
        columns = []
        for column in self.table.columns:
            if column.generated is None:
                sql = (replaced or {}).get(column.name)
                columns.append(OutColumn(column.name, column.type, sql or f"{alias}.{quoted(column)}"))
        scope = Scope([Relation("", columns)])
        for column in self.table.columns:
            if column.generated is not None:
                bound = self.binder.bind(parse_expression(column.generated), scope)
                found.append((column, clean(assign(self.binder, bound, column.type, column.name).sql)))
        return found


def run_insert(run: Run, statement: syntax.Insert, environment: Environment) -> tuple[list[int], list[Effect]]:
    """INSERT ... VALUES (one row or a batch) and INSERT ... SELECT."""
    key = "batch" if run.batch else "single"
    if key in run.compiled:
        table, sql, run.parameters.hidden = run.compiled[key]
        run.session.ensure_temporary(table)
        count: int | None = run.count
        first = run.first if run.batch else run.session.engine.reserve_rids(1)
    else:
        table = environment.base_table(
            statement.table.schema, statement.table.name, "INSERT", statement.table.position
        )
        run.session.ensure_temporary(table)
        source, count, first = insert_source(run, statement, environment, table)
        names = ", ".join([*(quoted(column) for column in table.columns), "_rid"])
        sql = f"INSERT INTO {table.sql} ({names}) {source}"
        if statement.values is not None:
            run.compiled[key] = (table, sql, run.parameters.hidden)
    done = run.number(sql, rid=first)
    last = first + (count if count is not None else run.session.engine.reserve) - 1
    note_identity(run, table, first, last)
    run.session.check_foreign_keys(table, f"_rid BETWEEN {first} AND {last}")
    effect = Effect(table.sql, added=f"_rid BETWEEN {first} AND {last}")
    return ([1] * count if run.batch and count is not None else [done]), [effect]


def insert_source(
    run: Run, statement: syntax.Insert, environment: Environment, table: TableInfo
) -> tuple[str, int | None, int]:
    """The SELECT of complete rows that an INSERT writes; the number of rows if known; the first row number."""
    binder = Binder(environment, run.parameters)
    target = Target(binder, table)
    if statement.values is not None:
        columns = target.columns(statement.columns, len(statement.values))
        given = bind_values(binder, columns, statement.values)
        if run.batch:
            return target.select(given, " FROM batch_rows AS p", "p.rid"), run.count, run.first
        first = run.session.engine.reserve_rids(1)
        return target.select(given, "", "CAST($rid AS BIGINT)"), 1, first
    assert statement.query is not None
    query = binder.bind_query(statement.query, None)
    columns = target.columns(statement.columns, len(query.columns))
    if len(columns) != len(query.columns):
        raise HanaError(270 if len(columns) > len(query.columns) else 269, "not enough or too many values")
    given = {}
    for column, out in zip(columns, query.columns, strict=True):
        bound = Bound(f"q.{out.sql}", out.type, out.nullable, exact=out.type is not None)
        given[column.name] = clean(assign(binder, bound, column.type, column.name).sql)
    first = run.session.engine.reserve_rids(run.session.engine.reserve)
    rid = "CAST($rid AS BIGINT) + row_number() OVER () - 1"
    return target.select(given, f" FROM ({clean(query.sql)}) AS q", rid), None, first


def bind_values(
    binder: Binder, columns: Sequence[ColumnInfo], values: Sequence[exp.Expr], scope: Scope | None = None
) -> dict[str, str]:
    """The values of a VALUES clause, converted to their columns' types."""
    if len(columns) > len(values):
        raise HanaError(270, "not enough values")
    if len(columns) < len(values):
        raise HanaError(269, "too many values")
    given = {}
    for column, value in zip(columns, values, strict=True):
        if isinstance(value, exp.Var):
            continue
        if column.identity == "ALWAYS":
            raise HanaError(1031, f"GENERATED ALWAYS AS IDENTITY column cannot be inserted: {column.name}")
        bound = binder.bind(value, scope or Scope())
        given[column.name] = clean(assign(binder, bound, column.type, column.name).sql)
    return given


def note_identity(run: Run, table: TableInfo, first: int, last: int) -> None:
    """Remember the last identity value for CURRENT_IDENTITY_VALUE()."""
    column = next((item for item in table.columns if item.identity), None)
    if column is not None:
        run.session.state.last_identity = run.number(
            f"SELECT arg_max({quoted(column)}, _rid) FROM {table.sql} "
            f"WHERE _rid BETWEEN {first} AND {last} HAVING count(*) > 0"
        )


def batch_table(parameters: Parameters, rows: Sequence[Sequence[Any]], first: int) -> arrow.Table:
    """Converted parameter rows as a table that DuckDB scans: p0, p1 ... and rid."""
    columns: list[tuple[str, Any, Sequence[Any]]] = []
    for index, kind in enumerate(parameters.types):
        assert kind is not None
        stored = types.vector() if index in parameters.vectors else kind
        columns.append((f"p{index}", stored, [row[index] for row in rows]))
    columns.append(("rid", types.BIGINT, range(first, first + len(rows))))
    return arrow.Table(columns)


def assigned_values(
    binder: Binder, table: TableInfo, assignments: Sequence[tuple[list[str], exp.Expr]], scope: Scope
) -> dict[str, str]:
    """The values of a SET clause, converted to their columns' types."""
    target = Target(binder, table)
    found: dict[str, str] = {}
    for names, value in assignments:
        columns = target.columns(names, None)
        values = list(value.expressions) if isinstance(value, exp.Tuple) else [value]
        if len(values) != len(columns):
            raise HanaError(7, "feature not supported by the loopback server: SET (...) = (subquery)")
        for column, item in zip(columns, values, strict=True):
            if column.name in found:
                raise HanaError(272, f"duplicate column name: {column.name}")
            if isinstance(item, exp.Var):
                bound = default_value(binder, column)
            else:
                bound = assign(binder, binder.bind(item, scope), column.type, column.name)
            found[column.name] = clean(bound.sql)
    return found


def set_clause(target: Target, alias: str, assigned: dict[str, str]) -> str:
    """A SET clause with the given values and the generated columns that follow from them."""
    items = []
    for column in target.table.columns:
        if column.name in assigned:
            items.append(f"{quoted(column)} = {assigned[column.name]}")
    items += [f"{quoted(column)} = {sql}" for column, sql in target.generated(alias, assigned)]
    # SELECT ... FOR UPDATE changes nothing, but holds the row like a change.
    return ", ".join(items) or f"_rid = {alias}._rid"


def run_update(run: Run, statement: syntax.Update, environment: Environment) -> tuple[list[int], list[Effect]]:
    """UPDATE."""
    table = environment.base_table(
        statement.table.schema, statement.table.name, "UPDATE", statement.table.position
    )
    run.session.ensure_temporary(table)
    binder = Binder(environment, run.parameters)
    alias = binder.alias()
    scope = Scope([binder.relation(table, alias, statement.alias)])
    source = ""
    if statement.source is not None:
        inner = Scope()
        text = binder.source(statement.source.this, inner)
        # UPDATE t SET ... FROM t, s names the target again; HANA means the same row.
        scope.relations += [item for item in inner.relations if item.name != (statement.alias or table.name)]
        source = f" FROM {text}"
    assigned = assigned_values(binder, table, statement.assignments, scope)
    where = f" WHERE {binder.condition(statement.where, scope)}" if statement.where is not None else ""
    target = Target(binder, table)
    keys = {name for item in table.constraints if item.kind in {"PRIMARY", "UNIQUE"} for name in item.columns}
    if keys & assigned.keys() and not source:
        rids = _replace_rows(run, target, alias, assigned, where)
    else:
        changes = set_clause(target, alias, assigned)
        sql = f"UPDATE {table.sql} AS {alias} SET {changes}{source}{where} RETURNING _rid"
        rids = changed_rids(run, sql)
    run.session.check_foreign_keys(table, BY_RIDS, rids=rids)
    effects = [Effect(table.sql, removed=rids, added=BY_RIDS)] if rids else []
    effects += run.session.cascade(table) if keys & assigned.keys() else []
    return [len(rids)], effects


def changed_rids(run: Run, sql: str) -> list[int]:
    """Run a change that returns the numbers of its rows."""
    found = run.execute(sql).fetchnumpy()["_rid"]
    values: list[int] = found.tolist()
    return values


def _replace_rows(run: Run, target: Target, alias: str, assigned: dict[str, str], where: str) -> list[int]:
    """Change key columns: DuckDB checks keys row by row, HANA when the statement ends."""
    generated = {column.name: sql for column, sql in target.generated(alias, assigned)}
    values = {**assigned, **generated}
    items = ", ".join(
        f"{values[column.name]} AS {quoted(column)}" if column.name in values else f"{alias}.{quoted(column)}"
        for column in target.table.columns
    )
    table = target.table.sql
    run.session.connection.execute("DROP TABLE IF EXISTS temp.main.changed_rows")
    run.execute(f"CREATE TEMP TABLE changed_rows AS SELECT {items}, {alias}._rid FROM {table} AS {alias}{where}")
    rids: list[int] = run.execute("SELECT _rid FROM temp.main.changed_rows").fetchnumpy()["_rid"].tolist()
    run.execute(f"DELETE FROM {table} WHERE _rid IN (SELECT _rid FROM temp.main.changed_rows)")
    run.execute(f"INSERT INTO {table} SELECT * FROM temp.main.changed_rows")
    run.execute("DROP TABLE temp.main.changed_rows")
    return rids


def run_delete(run: Run, statement: syntax.Delete, environment: Environment) -> tuple[list[int], list[Effect]]:
    """DELETE."""
    table = environment.base_table(
        statement.table.schema, statement.table.name, "DELETE", statement.table.position
    )
    run.session.ensure_temporary(table)
    binder = Binder(environment, run.parameters)
    alias = binder.alias()
    scope = Scope([binder.relation(table, alias, statement.alias)])
    where = f" WHERE {binder.condition(statement.where, scope)}" if statement.where is not None else ""
    rids = changed_rids(run, f"DELETE FROM {table.sql} AS {alias}{where} RETURNING _rid")
    effects = [Effect(table.sql, removed=rids)] if rids else []
    return [len(rids)], effects + run.session.cascade(table)


def run_upsert(run: Run, statement: syntax.Insert, environment: Environment) -> tuple[list[int], list[Effect]]:
    """UPSERT and REPLACE: by primary key, or where a condition finds rows."""
    table = environment.base_table(
        statement.table.schema, statement.table.name, "INSERT", statement.table.position
    )
    environment.check("UPDATE", table)
    key = table.primary_key()
    if statement.where is not None:
        assert statement.values is not None
        columns = Target(Binder(environment, run.parameters), table).columns(
            statement.columns, len(statement.values)
        )
        assignments = [([c.name], v) for c, v in zip(columns, statement.values, strict=False)]
        update = syntax.Update(statement.table, None, assignments, None, statement.where)
        counts, effects = run_update(run, update, environment)
        if counts[0]:
            return counts, effects
        return run_insert(run, statement, environment)
    if key is None:
        return run_insert(run, statement, environment)
    return _upsert_by_key(run, statement, environment, table, key.columns)


def _upsert_by_key(
    run: Run, statement: syntax.Insert, environment: Environment, table: TableInfo, keys: list[str]
) -> tuple[list[int], list[Effect]]:
    run.session.ensure_temporary(table)
    source, count, first = insert_source(run, statement, environment, table)
    run.session.connection.execute("DROP TABLE IF EXISTS temp.main.upsert_rows")
    run.execute(f"CREATE TEMP TABLE upsert_rows AS {source}", rid=first)
    total = run.number("SELECT count(*) FROM temp.main.upsert_rows")
    key_names = [quoted(column) for column in table.columns if column.name in keys]
    if count is None or count > 1:
        # The last row for a key wins.
        run.execute(
            "DELETE FROM temp.main.upsert_rows WHERE _rid NOT IN "
            f"(SELECT max(_rid) FROM temp.main.upsert_rows GROUP BY {', '.join(key_names)})"
        )
    same = " AND ".join(f"t.{name} = s.{name}" for name in key_names)
    target = Target(Binder(environment, run.parameters), table)
    written = {column.name for column in target.columns(statement.columns, None)}
    changed = [column for column in table.columns if column.name in written and column.name not in keys]
    rids: list[int] = []
    if changed:
        assigned = {column.name: f"s.{quoted(column)}" for column in changed}
        rids = changed_rids(
            run,
            f"UPDATE {table.sql} AS t SET {set_clause(target, 't', assigned)} FROM temp.main.upsert_rows AS s "
            f"WHERE {same} RETURNING t._rid",
        )
    run.execute(
        f"INSERT INTO {table.sql} SELECT * FROM temp.main.upsert_rows AS s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {table.sql} AS t WHERE {same})"
    )
    run.execute("DROP TABLE temp.main.upsert_rows")
    last = first + (count if count is not None else run.session.engine.reserve) - 1
    condition = f"_rid BETWEEN {first} AND {last}"
    note_identity(run, table, first, last)
    run.session.check_foreign_keys(table, condition)
    run.session.check_foreign_keys(table, BY_RIDS, rids=rids)
    effects = [Effect(table.sql, removed=rids, added=BY_RIDS)] if rids else []
    effects.append(Effect(table.sql, added=condition))
    return ([1] * count if run.batch and count is not None else [total]), effects

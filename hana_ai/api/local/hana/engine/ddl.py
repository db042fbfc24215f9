"""Run the statements that change the catalog. Each commits, as in HANA."""

from __future__ import annotations

from collections.abc import Callable

from hana_ai.api.local.hana.catalog.users import drop_user, run_user_statement
from hana_ai.api.local.hana.engine import ddl_columns, ddl_objects, ddl_rename, ddl_synonyms, ddl_tables
from hana_ai.api.local.hana.engine.ddl_context import Ddl
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.language import script_syntax, syntax
from hana_ai.api.local.hana.script import routines


def _drop_user(ddl: Ddl, statement: syntax.Drop) -> None:
    ddl.change = drop_user(ddl.environment, statement)


DROPPED: dict[str, Callable[[Ddl, syntax.Drop], None]] = {
    "TABLE": ddl_tables.drop_table,
    "VIEW": ddl_objects.drop_view,
    "SCHEMA": ddl_objects.drop_schema,
    "SEQUENCE": ddl_objects.drop_sequence,
    "INDEX": ddl_objects.drop_index,
    "USER": _drop_user,
    "FUNCTION": routines.drop_routine,
    "PROCEDURE": routines.drop_routine,
    "SYNONYM": ddl_synonyms.drop_synonym,
}
"""What DROP knows, and what carries it out."""


def run(ddl: Ddl, statement: syntax.Statement) -> int:
    """Carry out a statement; gives the number of rows it wrote, for CREATE TABLE ... AS."""
    match statement:
        case syntax.CreateTable():
            return ddl_tables.create_table(ddl, statement)
        case syntax.RenameTable():
            ddl_rename.rename_table(ddl, statement)
        case syntax.Truncate():
            ddl_tables.truncate(ddl, statement)
        case syntax.AddColumns():
            ddl_columns.add_columns(ddl, statement)
        case syntax.DropColumns():
            ddl_columns.drop_columns(ddl, statement)
        case syntax.AlterColumns():
            ddl_columns.alter_columns(ddl, statement)
        case syntax.RenameColumn():
            ddl_rename.rename_column(ddl, statement)
        case syntax.AddConstraint():
            ddl_columns.add_constraint(ddl, statement)
        case syntax.DropConstraint():
            ddl_columns.drop_constraint(ddl, statement)
        case syntax.AlterNothing():
            ddl_columns.alter_nothing(ddl, statement)
        case script_syntax.CreateRoutine():
            routines.create_routine(ddl, statement)
        case syntax.CreateView():
            ddl_objects.create_view(ddl, statement)
        case syntax.CreateSynonym():
            ddl_synonyms.create_synonym(ddl, statement)
        case syntax.CreateSchema():
            ddl_objects.create_schema(ddl, statement)
        case syntax.CreateSequence():
            ddl_objects.create_sequence(ddl, statement)
        case syntax.AlterSequence():
            ddl_objects.alter_sequence(ddl, statement)
        case syntax.CreateIndex():
            ddl_objects.create_index(ddl, statement)
        case syntax.RenameIndex():
            ddl_rename.rename_index(ddl, statement)
        case syntax.Comment():
            ddl_objects.comment(ddl, statement)
        case syntax.CreateUser() | syntax.AlterUser() | syntax.Grant():
            ddl.change = run_user_statement(ddl.environment, statement)
        case syntax.Drop():
            DROPPED[statement.kind](ddl, statement)
        case _:
            raise unsupported(type(statement).__name__)
    return 0

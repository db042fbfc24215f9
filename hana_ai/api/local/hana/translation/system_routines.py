"""Functions and procedures as HANA's system views show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import ParameterInfo, RoutineInfo

Row: TypeAlias = "Sequence[str | int | None]"


def _routines(env: Environment, kind: str) -> Iterator[RoutineInfo]:
    for routine in env.catalog.all(RoutineInfo):
        if routine.kind == kind and env.catalog.visible(env.user, routine.schema, routine.name):
            yield routine


def _flag(value: object) -> str:
    return "TRUE" if value else "FALSE"


def _security(routine: RoutineInfo) -> str:
    return "INVOKER" if routine.invoker else "DEFINER"


def _procedures(env: Environment) -> Iterator[Row]:
    for item in _routines(env, "PROCEDURE"):
        modes = [parameter.mode for parameter in item.parameters]
        yield (
            item.schema, item.name, item.oid, item.home, modes.count("IN"), modes.count("OUT"),
            modes.count("INOUT"), 0, "TRUE", item.definition, "SQLSCRIPT2", _flag(item.reads_only), "TRUE",
            _security(item), item.owner, item.created,
        )  # fmt: skip


def _functions(env: Environment) -> Iterator[Row]:
    for item in _routines(env, "FUNCTION"):
        gives_table = any(result.type is None for result in item.returns)
        yield (
            item.schema, item.name, item.oid, item.home, len(item.parameters), len(item.returns), "TRUE",
            item.definition, "SQLSCRIPT2", "TABLE" if gives_table else "SCALAR", "TRUE", _security(item),
            item.owner, _flag(item.deterministic), item.created,
        )  # fmt: skip


def _numbered(item: RoutineInfo) -> Iterator[tuple[int, ParameterInfo, str]]:
    for position, parameter in enumerate(item.parameters, 1):
        yield position, parameter, parameter.mode
    for position, parameter in enumerate(item.returns, len(item.parameters) + 1):
        yield position, parameter, "RETURN"


def _parameters(kind: str, env: Environment) -> Iterator[Row]:
    for item in _routines(env, kind):
        for position, parameter, mode in _numbered(item):
            code: int | None = None
            length: int | None = None
            scale: int | None = None
            name = "TABLE_TYPE"
            if parameter.type is not None:
                code, name = int(parameter.type.code), parameter.type.name
                length, scale = types.length_and_scale(parameter.type)
            yield (
                item.schema, item.name, item.oid, parameter.name, code, name, length, scale, position, None, None,
                _flag(parameter.type is None), mode, _flag(parameter.default is not None), "TRUE",
            )  # fmt: skip


def _parameter_columns(kind: str, env: Environment) -> Iterator[Row]:
    for item in _routines(env, kind):
        for number, parameter, _ in _numbered(item):
            for position, column in enumerate(parameter.columns, 1):
                length, scale = types.length_and_scale(column.type)
                yield (
                    item.schema, item.name, item.oid, parameter.name, number, column.name, position,
                    column.type.name, length, scale, "TRUE",
                )  # fmt: skip


_PARAMETERS = (
    "SCHEMA_NAME {0}_NAME {0}_OID:b PARAMETER_NAME DATA_TYPE_ID:h DATA_TYPE_NAME LENGTH:i SCALE:i POSITION:i "
    "TABLE_TYPE_SCHEMA TABLE_TYPE_NAME IS_INPLACE_TYPE PARAMETER_TYPE HAS_DEFAULT_VALUE IS_NULLABLE"
)
_COLUMNS = (
    "SCHEMA_NAME {0}_NAME {0}_OID:b PARAMETER_NAME PARAMETER_POSITION:i COLUMN_NAME POSITION:i DATA_TYPE_NAME "
    "LENGTH:i SCALE:i IS_NULLABLE"
)
_View: TypeAlias = tuple[str, Callable[[Environment], Iterator[Row]]]


def _parameter_views(kind: str) -> dict[str, _View]:
    return {
        f"{kind}_PARAMETERS": (_PARAMETERS.format(kind), partial(_parameters, kind)),
        f"{kind}_PARAMETER_COLUMNS": (_COLUMNS.format(kind), partial(_parameter_columns, kind)),
    }


ROUTINE_VIEWS: dict[str, _View] = {
    "PROCEDURES": (
        "SCHEMA_NAME PROCEDURE_NAME PROCEDURE_OID:b DEFAULT_SCHEMA_NAME INPUT_PARAMETER_COUNT:i "
        "OUTPUT_PARAMETER_COUNT:i INOUT_PARAMETER_COUNT:i RESULT_SET_COUNT:i IS_UNICODE DEFINITION:c "
        "PROCEDURE_TYPE READ_ONLY IS_VALID SQL_SECURITY OWNER_NAME CREATE_TIME:t",
        _procedures,
    ),
    **_parameter_views("PROCEDURE"),
    "FUNCTIONS": (
        "SCHEMA_NAME FUNCTION_NAME FUNCTION_OID:b DEFAULT_SCHEMA_NAME INPUT_PARAMETER_COUNT:i "
        "RETURN_VALUE_COUNT:i IS_UNICODE DEFINITION:c FUNCTION_TYPE FUNCTION_USAGE_TYPE IS_VALID SQL_SECURITY "
        "OWNER_NAME IS_DETERMINISTIC CREATE_TIME:t",
        _functions,
    ),
    **_parameter_views("FUNCTION"),
}
"""The views of routines: their columns, and what makes their rows."""

"""Synonyms as HANA's system view shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import SynonymInfo, TableInfo
from hana_ai.api.local.hana.names import PUBLIC_SCHEMA

COLUMNS = (
    "SCHEMA_NAME SYNONYM_NAME SYNONYM_OID:b OBJECT_DATABASE OBJECT_SCHEMA OBJECT_NAME OBJECT_TYPE "
    "IS_COLUMN_OBJECT IS_VALID CREATE_TIME:t"
)


def rows(env: Environment) -> Iterator[Sequence[str | int | None]]:
    """The public synonyms, and those in schemas that the user may see."""
    for item in env.catalog.all(SynonymInfo):
        if item.schema != PUBLIC_SCHEMA and not env.catalog.visible(env.user, item.schema, item.name):
            continue
        kind, stored_by_column = _kind(env, item)
        yield (
            item.schema, item.name, item.oid, None, item.target_schema, item.target_name, kind,
            "TRUE" if stored_by_column else "FALSE", "TRUE" if kind else "FALSE", item.created or None,
        )  # fmt: skip


def _kind(env: Environment, item: SynonymInfo) -> tuple[str | None, bool]:
    """What the synonym stands for, None when that is gone, and whether it is a column table."""
    name = item.target_schema, item.target_name
    relation = env.relation(*name)
    if isinstance(relation, TableInfo):
        return "TABLE", relation.kind == "COLUMN"
    if relation is not None or env.is_system_view(*name):
        return "VIEW", False
    if env.catalog.sequence(*name) is not None:
        return "SEQUENCE", False
    routine = env.catalog.routine(*name)
    return (routine.kind, False) if routine is not None else (None, False)

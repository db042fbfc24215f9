"""CREATE and DROP SYNONYM."""

from __future__ import annotations

from hana_ai.api.local.hana.catalog.objects import SynonymInfo
from hana_ai.api.local.hana.engine.ddl_context import Ddl
from hana_ai.api.local.hana.errors import no_privilege, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.names import PUBLIC_SCHEMA


def create_synonym(ddl: Ddl, statement: syntax.CreateSynonym) -> None:
    """CREATE [OR REPLACE] [PUBLIC] SYNONYM.

    Raises
    ------
    HanaError
        330 when the name is taken, 397 when there is nothing that the synonym could stand for.
    """
    name, public = statement.name.name, statement.name.schema == PUBLIC_SCHEMA
    if public:
        ddl.require("CREATE ANY", PUBLIC_SCHEMA)
    schema = PUBLIC_SCHEMA if public else ddl.home(statement.name)
    old = ddl.catalog.synonym(schema, name)
    if public and name in ddl.catalog.system_views:
        raise HanaError(330, f"cannot use duplicate synonym name: {name}")
    if old is None or not statement.replace:
        ddl.require_free_name(schema, name)
    elif not public:
        ddl.require("DROP", schema, name)
    home, target = _target(ddl, statement.target)
    oid = old.oid if old is not None else ddl.catalog.new_oid()
    created = old.created if old is not None else ""
    ddl.change.put.append(SynonymInfo(schema, name, oid, home, target, created))


def _target(ddl: Ddl, name: syntax.Name) -> tuple[str, str]:
    """Schema and name of what the synonym stands for."""
    environment, catalog = ddl.environment, ddl.catalog
    if name.name in ddl.work.state.temporary and name.schema in {None, environment.schema}:
        raise unsupported("synonyms of temporary tables", name.position)
    home = name.schema or environment.schema
    for look in (environment.relation, catalog.sequence, catalog.routine):
        if look(home, name.name) is not None:
            if not catalog.visible(environment.user, home, name.name):
                raise no_privilege()
            return home, name.name
    if environment.synonym(name.schema, name.name) is not None:
        raise unsupported("synonyms of synonyms", name.position)
    if environment.is_system_view(name.schema or "SYS", name.name):
        return "SYS", name.name
    raise HanaError(397, f"invalid object name: {name.name}", name.position)


def drop_synonym(ddl: Ddl, statement: syntax.Drop) -> None:
    """DROP [PUBLIC] SYNONYM.

    Raises
    ------
    HanaError
        315 for an unknown one, 419 for RESTRICT when a view reads through it.
    """
    schema = statement.name.schema or ddl.environment.schema
    found = ddl.catalog.synonym(schema, statement.name.name)
    if found is None:
        raise HanaError(315, f"invalid synonym: {statement.name.name}", statement.name.position)
    ddl.drop(found, statement.behavior)

"""Users, their schemas and their privileges."""

from __future__ import annotations

import copy

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import (
    Change,
    GrantInfo,
    RoutineInfo,
    SchemaInfo,
    TableInfo,
    UserInfo,
    ViewInfo,
    key_of,
)
from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.errors import no_privilege, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax

OBJECT_PRIVILEGES = frozenset(
    {
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "ALTER",
        "DROP",
        "INDEX",
        "REFERENCES",
        "TRIGGER",
        "EXECUTE",
        "CREATE ANY",
        "ALL PRIVILEGES",
        "DEBUG",
        "CREATE TEMPORARY TABLE",
        "CREATE VECTOR INDEX",
        "CREATE VIRTUAL TABLE",
        "SELECT METADATA",
    }
)
SYSTEM_PRIVILEGES = frozenset({"CREATE SCHEMA", "USER ADMIN", "CATALOG READ", "DATA ADMIN", "CREATE R SCRIPT"})


def run_user_statement(
    environment: Environment, statement: syntax.CreateUser | syntax.AlterUser | syntax.Grant
) -> Change:
    """CREATE, ALTER and DROP USER, GRANT and REVOKE; gives the change of the catalog.

    Raises
    ------
    HanaError
        258 without the privilege, 331 for a user that exists, 332 for one that does not.
    """
    if isinstance(statement, syntax.CreateUser):
        return _create(environment, statement)
    if isinstance(statement, syntax.AlterUser):
        return _alter(environment, statement)
    return _grant(environment, statement)


def _create(environment: Environment, statement: syntax.CreateUser) -> Change:
    catalog = environment.catalog
    if not catalog.allowed(environment.user, "USER ADMIN", ""):
        raise no_privilege()
    if catalog.user(statement.name) is not None:
        raise HanaError(331, f"user name already exists: {statement.name}")
    user = UserInfo(statement.name, catalog.new_oid())
    user.set_credentials(derive(statement.password))
    change = Change([user])
    if catalog.schema(statement.name) is None:
        change.put.append(SchemaInfo(statement.name, statement.name))
    return change


def _alter(environment: Environment, statement: syntax.AlterUser) -> Change:
    catalog = environment.catalog
    if environment.user != statement.name and not catalog.allowed(environment.user, "USER ADMIN", ""):
        raise no_privilege()
    found = catalog.user(statement.name)
    if found is None:
        raise HanaError(332, f"invalid user name: {statement.name}")
    changed = copy.copy(found)
    changed.set_credentials(derive(statement.password))
    return Change([changed])


def _grant(environment: Environment, statement: syntax.Grant) -> Change:
    catalog = environment.catalog
    if catalog.user(statement.user) is None:
        raise HanaError(332, f"invalid user name: {statement.user}")
    schema = name = ""
    known = OBJECT_PRIVILEGES
    if statement.kind == "SCHEMA":
        assert statement.target is not None
        schema = statement.target.name
        catalog.require_schema(schema)
    elif statement.kind == "OBJECT":
        assert statement.target is not None
        target = statement.target
        found: TableInfo | ViewInfo | RoutineInfo | str | None = environment.meant(
            catalog.routine, target.schema, target.name
        )
        if found is None:
            found = environment.table(target.schema, target.name, target.position)
        if isinstance(found, str):
            raise no_privilege()
        schema, name = found.schema, found.name
    else:
        known = SYSTEM_PRIVILEGES
    change = Change()
    for privilege in statement.privileges:
        wanted = "ALL PRIVILEGES" if privilege == "ALL" else privilege
        if wanted not in known:
            raise (
                unsupported(f"roles and the privilege {wanted}")
                if not statement.kind
                else HanaError(334, f"invalid user privilege: {wanted}")
            )
        if not _may_grant(environment, wanted, schema, name):
            raise no_privilege()
        grant = GrantInfo(statement.user, wanted, schema, name, environment.user, statement.grant_option)
        if statement.revoke:
            change.drop.append(key_of(grant))
        else:
            change.put.append(grant)
    return change


def _may_grant(environment: Environment, privilege: str, schema: str, name: str) -> bool:
    catalog = environment.catalog
    account = catalog.user(environment.user)
    if account is not None and account.admin:
        return True
    owner = catalog.schema(schema)
    if schema and owner is not None and owner.owner == environment.user:
        return True
    return any(
        grant.user == environment.user and grant.grantable and grant.schema == schema and grant.name in {"", name}
        and grant.privilege in {privilege, "ALL PRIVILEGES"}
        for grant in catalog.all(GrantInfo)
    )  # fmt: skip


def drop_user(environment: Environment, statement: syntax.Drop) -> Change:
    """DROP USER; CASCADE takes the user's grants, the schema goes by itself when it is empty."""
    catalog = environment.catalog
    name = statement.name.name
    if not catalog.allowed(environment.user, "USER ADMIN", ""):
        raise no_privilege()
    user = catalog.user(name)
    if user is None:
        if statement.if_exists:
            return Change()
        raise HanaError(332, f"invalid user name: {name}")
    owned = [schema for schema in catalog.all(SchemaInfo) if schema.owner == name]
    empty = [schema for schema in owned if not catalog.contents(schema.name)]
    if statement.behavior != "CASCADE" and empty != owned:
        raise HanaError(419, f"cannot drop user {name}: there are objects in the user's schema")
    change = Change(drop=[key_of(user)])
    change.drop += [key_of(grant) for grant in catalog.all(GrantInfo) if grant.user == name]
    change.drop += [key_of(schema) for schema in empty]
    if empty != owned:
        raise unsupported("DROP USER ... CASCADE with a schema that is not empty; drop the schema first")
    return change

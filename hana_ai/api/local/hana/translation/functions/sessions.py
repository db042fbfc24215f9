"""Functions that tell of the session."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from hana_ai.api.local.hana.catalog.environment import SessionState
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import SqlType
from hana_ai.api.local.hana.translation.binding import Binding, Handler
from hana_ai.api.local.hana.translation.fragments import cast_to
from hana_ai.api.local.hana.translation.functions.signatures import bind_arguments
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import BIGINT, INTEGER, nvarchar


def _told(value: Callable[[SessionState], object], stored: str, kind: SqlType, nullable: bool = False) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        return Bound(cast_to(binder.parameters.hide(value), stored), kind, nullable, exact=True)

    return handler


def _session_context(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    (key,) = bind_arguments(binder, "SESSION_CONTEXT", "s", nodes, scope)
    if key.text is None:
        raise unsupported("SESSION_CONTEXT of something that is no constant")
    wanted = key.text
    value = _told(lambda state: state.context(wanted), "VARCHAR", nvarchar(512), nullable=True)
    return value(binder, nodes, scope)


_USER = _told(lambda state: state.user, "VARCHAR", nvarchar(256))
_SCHEMA = _told(lambda state: state.schema, "VARCHAR", nvarchar(256))
_ISOLATION = _told(lambda state: state.isolation, "VARCHAR", nvarchar(30))
_CONNECTION = _told(lambda state: state.connection_id, "INTEGER", INTEGER)

FUNCTIONS: dict[str, Handler] = {
    "CURRENT_CONNECTION": _CONNECTION,
    "CURRENT_TRANSACTION_ISOLATION_LEVEL": _ISOLATION,
    "CURRENT_IDENTITY_VALUE": _told(lambda state: state.last_identity, "BIGINT", BIGINT, nullable=True),
    "CURRENT_OBJECT_SCHEMA": _SCHEMA,
    "SESSION_CONTEXT": _session_context,
}
NILADIC: dict[str, Handler] = {
    "CURRENT_USER": _USER,
    "SESSION_USER": _USER,
    "CURRENT_SCHEMA": _SCHEMA,
    "CURRENT_CONNECTION": _CONNECTION,
    "CURRENT_TRANSACTION_ISOLATION_LEVEL": _ISOLATION,
}

"""Routes the toolkit and SAP's GenAI Hub to Together AI."""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.routing.activation import activate, deactivate, guard_tables, is_active, is_enabled, status
    from hana_ai.api.routing.report import RoutingStatus
    from hana_ai.api.routing.scopes import stay, tenant

_MODULES = {
    "RoutingStatus": "report",
    "activate": "activation",
    "deactivate": "activation",
    "guard_tables": "activation",
    "is_active": "activation",
    "is_enabled": "activation",
    "status": "activation",
    "stay": "scopes",
    "tenant": "scopes",
}

__all__ = [
    "RoutingStatus",
    "activate",
    "deactivate",
    "guard_tables",
    "is_active",
    "is_enabled",
    "status",
    "stay",
    "tenant",
]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)

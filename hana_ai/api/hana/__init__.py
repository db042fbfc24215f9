"""SAP HANA: connections from the settings, and vector tables that keep to one embedding model.

The modules need the packages of the extra `toolkit` and are imported when they are used.
"""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.hana.checking import TableCheck, check_table
    from hana_ai.api.hana.ownership import stamp_table
    from hana_ai.api.hana.tables import VectorTableInfo, list_tables

_MODULES = {
    "TableCheck": "checking",
    "VectorTableInfo": "tables",
    "check_table": "checking",
    "list_tables": "tables",
    "stamp_table": "ownership",
}

__all__ = ["TableCheck", "VectorTableInfo", "check_table", "list_tables", "stamp_table"]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)

"""SAP HANA: connections from the settings, and vector tables that keep to one embedding model.

The modules need the packages of the extra `toolkit` and are imported when they are used.
"""

from hana_ai.api.hana.ownership import stamp_table

__all__ = ["stamp_table"]

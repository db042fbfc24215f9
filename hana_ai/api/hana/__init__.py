"""SAP HANA: connections from the settings, and vector tables that keep to one embedding model.

The modules need the packages of the extra `toolkit` and are imported when they are used.
"""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.hana.checking import TableCheck, check_table
    from hana_ai.api.hana.drawing import TableDrawing, draw_table
    from hana_ai.api.hana.ingest.job import (
        IngestEstimate,
        IngestInterrupted,
        IngestResult,
        estimate_ingest,
        ingest_documents,
    )
    from hana_ai.api.hana.ingest.progress import IngestProgress
    from hana_ai.api.hana.ingest.record_manager import HanaRecordManager
    from hana_ai.api.hana.mapping.job import (
        MapEstimate,
        MapProgress,
        MapResult,
        amap_table,
        estimate_map,
        map_table,
    )
    from hana_ai.api.hana.migration import (
        Migration,
        MigrationEstimate,
        MigrationProgress,
        estimate_migration,
        migrate_table,
    )
    from hana_ai.api.hana.ownership import stamp_table
    from hana_ai.api.hana.showing import ProgressLine
    from hana_ai.api.hana.swapping import drop_replaced
    from hana_ai.api.hana.tables import VectorTableInfo, list_tables

_MODULES = {
    "HanaRecordManager": "ingest.record_manager",
    "IngestEstimate": "ingest.job",
    "IngestInterrupted": "ingest.job",
    "IngestProgress": "ingest.progress",
    "IngestResult": "ingest.job",
    "MapEstimate": "mapping.job",
    "MapProgress": "mapping.job",
    "MapResult": "mapping.job",
    "Migration": "migration",
    "MigrationEstimate": "migration",
    "MigrationProgress": "migration",
    "ProgressLine": "showing",
    "TableCheck": "checking",
    "TableDrawing": "drawing",
    "VectorTableInfo": "tables",
    "amap_table": "mapping.job",
    "check_table": "checking",
    "draw_table": "drawing",
    "drop_replaced": "swapping",
    "estimate_ingest": "ingest.job",
    "estimate_map": "mapping.job",
    "estimate_migration": "migration",
    "ingest_documents": "ingest.job",
    "list_tables": "tables",
    "map_table": "mapping.job",
    "migrate_table": "migration",
    "stamp_table": "ownership",
}

__all__ = [
    "HanaRecordManager",
    "IngestEstimate",
    "IngestInterrupted",
    "IngestProgress",
    "IngestResult",
    "MapEstimate",
    "MapProgress",
    "MapResult",
    "Migration",
    "MigrationEstimate",
    "MigrationProgress",
    "ProgressLine",
    "TableCheck",
    "TableDrawing",
    "VectorTableInfo",
    "amap_table",
    "check_table",
    "draw_table",
    "drop_replaced",
    "estimate_ingest",
    "estimate_map",
    "estimate_migration",
    "ingest_documents",
    "list_tables",
    "map_table",
    "migrate_table",
    "stamp_table",
]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)

"""A corpus into a vector table of SAP HANA: read, split, embedded and written, each chunk once."""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.hana.ingest.job import (
        IngestEstimate,
        IngestInterrupted,
        IngestOptions,
        IngestResult,
        estimate_ingest,
        ingest_documents,
    )
    from hana_ai.api.hana.ingest.progress import IngestProgress
    from hana_ai.api.hana.ingest.record_manager import HanaRecordManager

_MODULES = {
    "HanaRecordManager": "record_manager",
    "IngestEstimate": "job",
    "IngestInterrupted": "job",
    "IngestOptions": "job",
    "IngestProgress": "progress",
    "IngestResult": "job",
    "estimate_ingest": "job",
    "ingest_documents": "job",
}

__all__ = [
    "HanaRecordManager",
    "IngestEstimate",
    "IngestInterrupted",
    "IngestOptions",
    "IngestProgress",
    "IngestResult",
    "estimate_ingest",
    "ingest_documents",
]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)

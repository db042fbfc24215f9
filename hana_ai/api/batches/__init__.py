"""Together's Batch API: thousands of requests in a file, answered within a day."""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.batches.jobs import Batches, BatchLimits
    from hana_ai.api.batches.records import Batch, BatchEstimate, BatchResult
    from hana_ai.api.batches.results import BatchResults

_MODULES = {
    "Batch": "records",
    "BatchEstimate": "records",
    "BatchLimits": "jobs",
    "BatchResult": "records",
    "BatchResults": "results",
    "Batches": "jobs",
}

__all__ = ["Batch", "BatchEstimate", "BatchLimits", "BatchResult", "BatchResults", "Batches"]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)
